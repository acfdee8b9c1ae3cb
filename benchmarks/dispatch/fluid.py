"""A fleet as a fluid model: audio flows in at a rate, and out at the speed of running replicas.

The model shows in a second what an autoscaling policy does over a day. It has no chunks, batches or
failures: those are in `cluster/simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from cluster.autoscaling import Aims, Load, PoolLoad, State, decide


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at the end of a step."""

    now_s: float
    arriving: float  # audio seconds a second
    backlog_s: float  # audio seconds
    desired: dict[str, int]
    running: dict[str, int]


def run(
    arriving: Callable[[float], float],
    pools: Sequence[PoolLoad],
    aims: Aims,
    *,
    duration_s: float,
    step_s: float = 5.0,
) -> list[Moment]:
    """The fleet under the policy and a load, step by step.

    A replica runs `start_s` after the policy asked for it.
    """
    ready_at_s: dict[str, list[float]] = {p.name: [0.0] * p.running for p in pools}
    backlog_s = accepted_s = now_s = 0.0
    state = State()
    trace: list[Moment] = []
    while now_s < duration_s:
        rate = arriving(now_s)
        now_s += step_s
        running = {name: sum(t <= now_s for t in ready) for name, ready in ready_at_s.items()}
        accepted_s += rate * step_s
        speed = sum(p.speed * running[p.name] for p in pools)
        backlog_s = max(0.0, backlog_s + (rate - speed) * step_s)
        seen = [replace(p, running=running[p.name], target=len(ready_at_s[p.name])) for p in pools]
        desired, state = decide(now_s, Load(backlog_s, accepted_s), seen, state, aims)
        for pool in pools:
            # The list has the oldest replica first: the youngest is given back.
            ready = ready_at_s[pool.name]
            more = desired[pool.name] - len(ready)
            ready.extend([now_s + pool.start_s] * more)
            del ready[desired[pool.name] :]
        trace.append(Moment(now_s, rate, backlog_s, desired, running))
    return trace


def direction_changes(trace: Sequence[Moment]) -> int:
    """How often a pool grows after it shrank, or shrinks after it grew; of the worst pool."""
    return max(
        sum(a * b < 0 for a, b in pairwise(_steps([moment.desired[name] for moment in trace])))
        for name in trace[0].desired
    )


def _steps(counts: Sequence[int]) -> list[int]:
    return [b - a for a, b in pairwise(counts) if b != a]
