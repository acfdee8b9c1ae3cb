"""`autoscale`: the autoscaling policy over a day of load: changes of direction, waits and cost.

The policy is `cluster/autoscaling.py`, as Serve runs it. The fleet is a fluid model (`fluid.py`)
of three pools, which begin with no replica. Two days are simulated, both with noise: a square wave
and the curve of a working day.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.dispatch.fluid import Moment, direction_changes, run
from benchmarks.results import Figures
from cluster.autoscaling import Aims, PoolLoad, cheapest
from cluster.profiles import profile, replica_price

DAY_S = 24 * 3600
STEP_S = 5.0
SQUARE_S = 3 * 3600  # period of the square wave
FLEET = {"T4": 8, "L4": 8, "A100": 4}  # replicas at most, each on half a card
PEAK, LOW = 20_000.0, 500.0  # audio seconds a second
NOISE = 0.3  # of the load, uniform, drawn anew at every step


def run_day(
    drain_s: Annotated[
        float, typer.Option(help="Seconds in which the fleet should drain its backlog.")
    ] = 120.0,
    give_back_after_s: Annotated[
        float, typer.Option(help="Seconds a replica is not needed before it is given back.")
    ] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw the two days in.")] = None,
) -> Figures:
    """The policy over two days of load: changes of direction, waits, surplus speed and cost."""
    aims, pools = Aims(drain_s, give_back_after_s), fleet()
    days = {
        name: run(noisy(load, seed), pools, aims, duration_s=DAY_S, step_s=STEP_S)
        for name, load in LOADS.items()
    }
    figures: Figures = {}
    for name, trace in days.items():
        of_day = describe(trace, pools, drain_s) | {"load_changes": load_changes(LOADS[name])}
        figures |= {f"{name}_{figure}": value for figure, value in of_day.items()}
    if plot is not None:
        draw(days, pools, drain_s, plot)
    return figures


def fleet() -> list[PoolLoad]:
    """Pools of half cards with the speeds and prices of the profiles; no replica is running."""
    return [
        PoolLoad(
            name,
            running=0,
            target=0,
            min_replicas=0,
            max_replicas=count,
            speed=profile(name).speed / 2,
            price=replica_price(name, num_gpus=0.5, num_cpus=1),
            start_s=60.0,
        )
        for name, count in FLEET.items()
    ]


def square(now_s: float) -> float:
    """PEAK and nothing in turns."""
    return PEAK if now_s % SQUARE_S < SQUARE_S / 2 else 0.0


def working_day(now_s: float) -> float:
    """A load of nothing from midnight to 4:00 that is highest at 14:00."""
    phase = max(0.0, (now_s / DAY_S - 1 / 6) * 6 / 5)
    return 0.0 if phase == 0 else LOW + (PEAK - LOW) * math.sin(math.pi * phase) ** 2


LOADS = {"square": square, "working_day": working_day}


def load_changes(load: Callable[[float], float]) -> int:
    """How often the load without noise falls after a rise, or rises after a fall."""
    values = [load(now_s) for now_s in range(0, DAY_S, 600)]
    steps = [b - a for a, b in pairwise(values) if a != b]
    return sum(a * b < 0 for a, b in pairwise(steps)) + (values[0] > 0)


def noisy(load: Callable[[float], float], seed: int) -> Callable[[float], float]:
    """The load, multiplied by a factor that is drawn anew at every step."""
    draw_factor = random.Random(seed)
    factors = [draw_factor.uniform(1 - NOISE, 1 + NOISE) for _ in range(int(DAY_S / STEP_S) + 1)]
    return lambda now_s: load(now_s) * factors[int(now_s / STEP_S)]


def describe(trace: Sequence[Moment], pools: Sequence[PoolLoad], drain_s: float) -> Figures:
    """The figures of one day.

    `usd_always_on` is the cost of the cheapest fleet that carries the peak load all day.
    """
    waits_s = sorted(waits(trace))
    audio_s = sum(m.arriving for m in trace) * STEP_S
    ran_s = sum(speed_of(m.running, pools) for m in trace) * STEP_S
    peak = cheapest(max(m.arriving for m in trace), pools, {p.name: p.max_replicas for p in pools})
    usd = sum(price_of(m.desired, pools) for m in trace) * STEP_S / 3600
    return {
        "direction_changes": direction_changes(trace),
        "wait_p50_s": round(waits_s[len(waits_s) // 2], 1),
        "wait_p95_s": round(waits_s[int(len(waits_s) * 0.95)], 1),
        "wait_max_s": round(waits_s[-1], 1),
        "drain_s": drain_s,
        "speed_over_load": round(ran_s / audio_s, 3),
        "usd": round(usd, 2),
        "usd_always_on": round(price_of(peak, pools) * 24, 2),
    }


def waits(trace: Sequence[Moment]) -> list[float]:
    """For each moment with load, how long its audio waits until all audio before it is done.

    Audio is recognised in the order in which it arrived.
    """
    done = accepted = 0.0
    dones: list[float] = []
    found: list[float] = []
    for moment in trace:
        accepted += moment.arriving * STEP_S
        dones.append(accepted - moment.backlog_s)
    accepted, k = 0.0, 0
    for i, moment in enumerate(trace):
        accepted += moment.arriving * STEP_S
        k = max(k, i)
        while k < len(dones) - 1 and dones[k] < accepted - 1e-6 * max(1.0, accepted):
            k += 1
        done = dones[k]
        if moment.arriving and done:
            found.append((k - i) * STEP_S)
    return found


def speed_of(replicas: Mapping[str, int], pools: Sequence[PoolLoad]) -> float:
    """Audio seconds a second of these replicas together."""
    return sum(p.speed * replicas.get(p.name, 0) for p in pools)


def price_of(replicas: Mapping[str, int], pools: Sequence[PoolLoad]) -> float:
    """Dollars an hour of these replicas together."""
    return sum(p.price * replicas.get(p.name, 0) for p in pools)


def draw(
    days: Mapping[str, Sequence[Moment]], pools: Sequence[PoolLoad], drain_s: float, path: Path
) -> None:
    """Draws load and speed, replicas, and the drain time of the backlog; one column a day."""
    from matplotlib.figure import Figure  # takes a second to import, and only a plot needs it

    figure = Figure(figsize=(11, 7), layout="constrained")
    rows = figure.subplots(3, len(days), sharex=True, squeeze=False)
    for column, (name, trace) in enumerate(days.items()):
        hours = [m.now_s / 3600 for m in trace]
        load, replicas, drain = (row[column] for row in rows)
        load.plot(hours, [m.arriving for m in trace], lw=0.3, label="load")
        load.plot(hours, [speed_of(m.running, pools) for m in trace], label="speed")
        load.set(title=name.replace("_", " "), ylabel="audio s a second")
        for pool in pools:
            replicas.step(hours, [m.desired[pool.name] for m in trace], label=pool.name)
        replicas.set(ylabel="replicas")
        waiting = [m.backlog_s / max(1.0, speed_of(m.running, pools)) for m in trace]
        drain.plot(hours, [min(wait, 3 * drain_s) for wait in waiting], label="backlog / speed")
        drain.axhline(drain_s, color="grey", ls="--", label="aim")
        drain.set(ylabel="seconds", xlabel="hour")
        for axes in (load, replicas, drain):
            axes.legend(loc="upper right", fontsize="small")
    figure.savefig(path, dpi=80)
