"""The tables that `top` shows, made from a picture of the cluster at one moment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cluster.gpus import Gpu, Reading
from cluster.ray_view import RayNode

NONE = "-"  # stands for a figure that is not known
HOT_C = 85  # shown in red from here: data centre cards slow down above it
FULL = 0.95  # share of a card's memory above which the memory is shown in red


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known about the cluster at one moment; `problems` says what is not, and why."""

    nodes: Sequence[RayNode] = ()
    gpus: Mapping[str, Reading] = field(default_factory=dict)  # host -> its cards
    service: Mapping[str, Any] | None = None  # the body of /readyz
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of pools."""

    title: str
    keys: tuple[str, ...]  # the figure is the first of these that the service reports
    shown: Callable[[float], str]


POOL_COLUMNS = (
    Column("replicas", ("replicas",), lambda n: f"{n:.0f}"),
    Column("chunks", ("outstanding_chunks",), lambda n: f"{n:.0f}"),
    Column("backlog", ("backlog_audio_s", "outstanding_audio_s"), lambda s: f"{s:,.0f} s"),
    Column("speed", ("speed",), lambda x: f"{x:,.0f}x"),
    Column("slowdown", ("slowdown",), lambda x: f"{x:.2f}"),
    Column("padding", ("padding",), lambda share: f"{share:.0%}"),
    Column("OOMs", ("ooms",), lambda n: f"{n:.0f}"),
)


def render(picture: Picture) -> RenderableType:
    """All tables that have a row, and the problems below them."""
    parts: list[RenderableType] = []
    if picture.nodes:
        parts += [node_table(picture.nodes), ""]
    if any(reading.gpus for reading in picture.gpus.values()):
        parts += [gpu_table(picture.gpus), ""]
    if picture.service is not None:
        parts += [pool_table(picture.service), "", service_line(picture.service)]
    trouble = [f"{host}: {words}" for host, words in gpu_problems(picture.gpus)]
    parts += [f"[yellow]! {escape(words)}[/]" for words in (*trouble, *picture.problems)]
    return Group(*parts)


def node_table(nodes: Sequence[RayNode]) -> Table:
    table = _table("NODE", "state", "CPUs", "GPUs", "type", "RAM", "objects")
    for node in nodes:
        table.add_row(
            escape(node.host) + (" *" if node.is_this else ""),
            "[green]alive[/]" if node.is_alive else "[red]dead[/]",
            f"{node.num_cpus:g}",
            f"{node.num_gpus:g}",
            escape(node.accelerator_type) or NONE,
            f"{node.memory_mib / 1024:.0f} GiB",
            f"{node.object_store_mib / 1024:.0f} GiB",
        )
    return table


def gpu_table(gpus: Mapping[str, Reading]) -> Table:
    table = _table("GPU", "name", "util", "memory", "temp", "power", "processes")
    for host, reading in gpus.items():
        for gpu in reading.gpus:
            table.add_row(
                escape(f"{host}:{gpu.index}"),
                escape(gpu.name) + (f" ({len(gpu.mig)} MIG)" if gpu.is_mig else ""),
                _or_none(gpu.utilization_percent, "{:.0f} %"),
                _memory(gpu),
                _temperature(gpu.temperature_c),
                _power(gpu),
                NONE if gpu.processes is None else str(len(gpu.processes)),
            )
    return table


def gpu_problems(gpus: Mapping[str, Reading]) -> list[tuple[str, str]]:
    """(host, problem) of every card or driver that cannot be read."""
    return [
        (host, (f"GPU {p.index}: " if p.index is not None else "") + p.what)
        for host, reading in gpus.items()
        for p in reading.problems
    ]


def pool_table(service: Mapping[str, Any]) -> Table:
    """The table of pools, without the columns for which no pool has a figure."""
    pools: Mapping[str, Mapping[str, Any]] = service.get("pools") or {}
    columns = [c for c in POOL_COLUMNS if any(_figure(p, c) is not None for p in pools.values())]
    table = _table("POOL", *(column.title for column in columns))
    for name, pool in pools.items():
        figures = [_figure(pool, column) for column in columns]
        shown = (
            NONE if figure is None else column.shown(figure)
            for figure, column in zip(figures, columns, strict=True)
        )
        table.add_row(escape(name), *shown)
    return table


def _figure(pool: Mapping[str, Any], column: Column) -> float | None:
    return next((float(pool[key]) for key in column.keys if pool.get(key) is not None), None)


def service_line(service: Mapping[str, Any]) -> str:
    state = "[green]ready[/]" if service.get("ready") else "[red]not ready[/]"
    stages = ", ".join(f"{escape(n)} {count}" for n, count in (service.get("stages") or {}).items())
    parts = [f"Service {state}"]
    if stages:
        parts.append(stages)
    if service.get("requests") is not None:
        parts.append(f"{service['requests']} requests under way")
    if service.get("waiting_audio_s") is not None:
        parts.append(f"{service['waiting_audio_s']:,.0f} s of audio waiting for a pool")
    if service.get("queue_s") is not None:
        parts.append(f"{service['queue_s']:,.1f} s of work queued")
    if service.get("reason"):
        parts.append(escape(str(service["reason"])))
    return "; ".join(parts) + "."


def _memory(gpu: Gpu) -> str:
    used, total = gpu.memory_used_mib, gpu.memory_total_mib
    if used is None or not total:
        return NONE
    text = f"{used:,} / {total:,} MiB"
    return f"[red]{text}[/]" if used > FULL * total else text


def _temperature(celsius: int | None) -> str:
    text = _or_none(celsius, "{:.0f} °C")
    return f"[red]{text}[/]" if celsius is not None and celsius >= HOT_C else text


def _power(gpu: Gpu) -> str:
    drawn = _or_none(gpu.power_w, "{:.0f} W")
    return drawn if gpu.power_limit_w is None else f"{drawn} / {gpu.power_limit_w:.0f} W"


def _or_none(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    for title in others:
        table.add_column(title, justify="left" if title in ("name", "type") else "right")
    return table
