"""`python -m cluster simulate`: tries a fleet under traffic and failures before you pay for it.

Prints a table. With `--plot FILE` it also draws the queue, the replicas and the latency over time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from cluster.autoscaling import Aims
from cluster.profiles import profile
from cluster.simulation.policy import POLICY_EVERY_MS, Autoscaler, from_nothing, running_hours
from cluster.simulation.scenario import Arrival, Outcome, Trouble, Truth
from cluster.simulation.simulator import Simulation
from deployments.config import AutoscalingSettings
from deployments.core.scheduler.planning import PoolSpec

BATCH_AUDIO_S = {
    "T4": 60.0,
    "L4": 120.0,
    "A10G": 120.0,
    "A100": 300.0,
    "H100": 600.0,
    "H200": 600.0,
}
OTHER_BATCH_AUDIO_S = 120.0
OVERHEAD_MS = 40.0
START_MS = 40_000.0
AIMS = AutoscalingSettings()
# mu and sigma of the log-normal length of a speech segment in s: median 6.7 s, as VADs give
SEGMENT_LOG_S = (1.9, 0.7)


def segments_ms(audio_s: float, rng: random.Random) -> tuple[int, ...]:
    """Random lengths of a recording's segments, 1 to 30 s each, at least `audio_s` in total."""
    lengths, total_s = [], 0.0
    while total_s < audio_s:
        length_s = min(30.0, max(1.0, rng.lognormvariate(*SEGMENT_LOG_S)), audio_s)
        lengths.append(round(length_s * 1000))
        total_s += length_s
    return tuple(lengths)


def fleet(gpus: str, rng: random.Random, *, prior_error: float = 0.0) -> list[Truth]:
    """The pools of a fleet such as "T4:4,L4:2,H200:1".

    The scheduler is told a speed and an overhead that are wrong by `prior_error`, up or down.
    Raises ValueError if the text has another form.
    """
    pools = []
    for part in gpus.split(","):
        name, _, count = part.strip().partition(":")
        if not name or not (count or "1").isdigit() or int(count or 1) < 1:
            raise ValueError(f"{part!r} is not GPU:COUNT")
        speed = profile(name).speed
        off = [rng.choice((1 - prior_error, 1 + prior_error)) for _ in range(2)]
        prior = PoolSpec(
            name=name,
            batch_audio_ms=round(BATCH_AUDIO_S.get(name, OTHER_BATCH_AUDIO_S) * 1000),
            speed=speed * off[0],
            overhead_ms=OVERHEAD_MS * off[1],
            max_ongoing=8,
            start_ms=START_MS,
        )
        pools.append(Truth(prior, int(count or 1), speed, OVERHEAD_MS))
    return pools


def traffic(
    rng: random.Random, *, minutes: float, short_per_minute: float, long_hours: tuple[float, ...]
) -> list[Arrival]:
    """Long recordings at the beginning, and short ones of 3 to 30 s at random times."""
    arrivals = [
        Arrival(0.0, f"long-{i}", segments_ms(hours * 3600, rng))
        for i, hours in enumerate(long_hours)
    ]
    at_ms = 0.0
    while short_per_minute:
        at_ms += rng.expovariate(short_per_minute) * 60_000
        if at_ms >= minutes * 60_000:
            break
        lengths_ms = segments_ms(rng.uniform(3, 30), rng)
        arrivals.append(Arrival(at_ms, f"short-{len(arrivals)}", lengths_ms))
    return arrivals


def latencies_ms(outcome: Outcome, prefix: str) -> list[float]:
    """Latencies, sorted, of the requests whose name begins with `prefix`."""
    return sorted(done.latency_ms for done in outcome.done if done.name.startswith(prefix))


def percentile(values: list[float], percent: int) -> float:
    """The percentile of sorted values, 0 if there are none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def plot(outcome: Outcome, path: Path) -> None:
    """Draws queue, replicas and latency over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    queue, replicas, latency = figure.subplots(3, 1, sharex=True)
    minutes = [sample.at_ms / 60_000 for sample in outcome.samples]
    queue.plot(minutes, [sample.waiting_s for sample in outcome.samples])
    queue.set_ylabel("audio waiting (s)")
    for name in outcome.samples[0].replicas if outcome.samples else ():
        counts = [sample.replicas[name] for sample in outcome.samples]
        replicas.step(minutes, counts, where="post", label=name)
    replicas.set_ylabel("replicas")
    replicas.legend()
    ended = [done.at_ms / 60_000 for done in outcome.done]
    latency.plot(ended, [done.latency_ms / 1000 for done in outcome.done], ".", markersize=3)
    latency.set_ylabel("latency (s)")
    latency.set_yscale("log")
    latency.set_xlabel("minutes")
    figure.savefig(path, dpi=110)


def table(outcome: Outcome) -> Table:
    """The outcome as a table of figures."""
    rows = Table("figure", "value", box=None, header_style="bold")
    audio_s = sum(done.audio_ms for done in outcome.done) / 1000
    end_ms = max((done.at_ms for done in outcome.done), default=0.0)
    rows.add_row("requests done", str(len(outcome.done)))
    rows.add_row("segments given up", str(sum(done.given_up for done in outcome.done)))
    rows.add_row("audio hours", f"{audio_s / 3600:.1f}")
    rows.add_row("simulated minutes", f"{end_ms / 60_000:.1f}")
    for kind in ("short", "long"):
        found = latencies_ms(outcome, kind)
        if found:
            p50, p95 = percentile(found, 50) / 1000, percentile(found, 95) / 1000
            rows.add_row(f"latency of {kind} requests, p50 / p95", f"{p50:.3f} s / {p95:.3f} s")
    rows.add_row("chunks", str(outcome.n_chunks))
    rows.add_row("replicas that died", str(outcome.n_deaths))
    rows.add_row("scheduling per chunk", f"{outcome.scheduling_us_per_chunk:.0f} us of CPU time")
    for name, busy_ms in sorted(outcome.busy_ms.items()):
        rows.add_row(f"busy, {name}", f"{busy_ms / 1000:.1f} replica seconds")
    return rows


def scaling_table(outcome: Outcome, pools: Sequence[Truth]) -> Table:
    """How far each pool grew, how long its replicas ran, and what that costs."""
    rows = Table("pool", "most at once", "hours", "USD", box=None, header_style="bold")
    hours = running_hours(outcome)
    for pool in pools:
        name = pool.prior.name
        most = max((sample.replicas[name] for sample in outcome.samples), default=0)
        ran_h = hours.get(name, 0.0)
        rows.add_row(name, str(most), f"{ran_h:.2f}", f"{ran_h * pool.price:.2f}")
    return rows


def simulate(
    gpus: Annotated[str, typer.Option(help="the fleet: GPU:COUNT,...")] = "T4:2,L4:1,A100:1",
    minutes: Annotated[float, typer.Option(help="how long short requests arrive", min=0.0)] = 5.0,
    short_per_minute: Annotated[float, typer.Option(help="requests of 3 to 30 s", min=0.0)] = 60.0,
    long_hours: Annotated[
        list[float] | None, typer.Option(help="a long recording; repeatable")
    ] = None,
    prior_error: Annotated[
        float, typer.Option(help="how wrong the assumed speeds are", min=0, max=0.9)
    ] = 0.3,
    noise: Annotated[float, typer.Option(help="sigma of the batches' times", min=0.0)] = 0.1,
    stragglers: Annotated[float, typer.Option(help="share of slow replicas", min=0, max=1)] = 0.0,
    deaths_per_hour: Annotated[float, typer.Option(help="for each replica", min=0.0)] = 0.0,
    autoscale: Annotated[bool, typer.Option("--autoscale", help="start with no replica")] = False,
    drain_s: Annotated[
        float, typer.Option(help="clear a backlog within this time", min=1.0)
    ] = AIMS.drain_s,
    give_back_after_s: Annotated[
        float, typer.Option(help="stop a replica that was not needed for this long", min=1.0)
    ] = AIMS.give_back_after_s,
    seed: int = 0,
    figure: Annotated[Path | None, typer.Option("--plot", help="PNG to write")] = None,
) -> None:
    """Simulate traffic on a fleet, with the scheduler that runs in production.

    With --autoscale its autoscaling policy runs too, and COUNT is the most that a pool may grow to.
    """
    rng = random.Random(seed)
    try:
        pools = fleet(gpus, rng, prior_error=prior_error)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gpus") from None
    try:
        settings = AutoscalingSettings(drain_s=drain_s, give_back_after_s=give_back_after_s)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--drain-s") from None
    arrivals = traffic(
        rng,
        minutes=minutes,
        short_per_minute=short_per_minute,
        long_hours=tuple(long_hours or (1.0,)),
    )
    trouble = Trouble(noise=noise, stragglers=stragglers, deaths_per_hour=deaths_per_hour)
    policy = None
    if autoscale:
        pools = from_nothing(pools)
        policy = Autoscaler(Aims(settings.drain_s, settings.give_back_after_s))
    began_s = time.perf_counter()
    outcome = Simulation(
        pools,
        arrivals,
        seed=seed,
        trouble=trouble,
        policy=policy,
        policy_every_ms=POLICY_EVERY_MS,
    ).run()
    rows = table(outcome)
    rows.add_row("simulated in", f"{time.perf_counter() - began_s:.1f} s")
    Console().print(rows)
    if autoscale:
        Console().print(scaling_table(outcome, pools))
    if figure is not None:
        plot(outcome, figure)


if __name__ == "__main__":
    typer.run(simulate)
