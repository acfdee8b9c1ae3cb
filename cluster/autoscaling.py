"""How many replicas each pool should have: one autoscaling policy for all pools together.

    decide(now_s, load, pools, state, aims) -> (desired, state)

Growing: the backlog divided by the configured drain time is the speed that is needed. If the pools
are slower than that, the cheapest replicas that close the gap are started at once.

Giving back: the policy looks at all that arrived in the last window. It keeps the cheapest part of
the fleet that would have met the drain time for it, so the dearest replicas go first.

The fleet must not swing under a square wave of load, noise, or replicas that start late. Therefore
the need is measured and never multiplied by a factor. Shrinking asks of the past what growing will
ask of the future. A policy with a factor on the error and no memory was seen to swing between 500
and 2000 replicas every minute (ray-project/ray#63279).

`decide` is pure. Serve calls `serve_policy`, at the end of this file. See DESIGN, Autoscaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

BUCKETS = 20  # pieces into which the window is divided
SPARE = 1.15  # the fleet kept is this much faster than needed, so that it need not grow at once
# A replica that has not started after this many times its pool's start time counts as unavailable.
START_PATIENCE = 3.0
NOTHING_S = 1e-3  # a backlog (audio s) or a need (audio s/s) up to this counts as none


@dataclass(frozen=True, slots=True)
class Aims:
    """The aims that the configuration sets for autoscaling."""

    drain_s: float  # a backlog should be done within this time
    give_back_after_s: float  # a replica goes if it was not needed for this long; >= drain_s


@dataclass(frozen=True, slots=True)
class Load:
    """The work of all pools, in audio seconds."""

    backlog_s: float  # queued or in progress
    accepted_s: float  # ever accepted; only grows, until the dispatcher is replaced


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """A pool at the moment of a decision."""

    name: str
    running: int
    target: int  # replicas asked for before; those that do not run yet are starting
    min_replicas: int
    max_replicas: int
    speed: float  # measured audio seconds per second of one replica
    price: float  # of one replica for one hour, in any currency; more than 0
    start_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Bucket:
    """When a piece of the window began, and the load at that moment."""

    start_s: float
    backlog_s: float
    accepted_s: float


@dataclass(frozen=True, slots=True)
class _Starting:
    """A pool that runs fewer replicas than were asked for, and since when no new one started."""

    running: int
    since_s: float


@dataclass(frozen=True, slots=True)
class State:
    """The memory between two decisions."""

    buckets: tuple[_Bucket, ...] = ()  # oldest first
    starting: Mapping[str, _Starting] = field(default_factory=dict)


def decide(
    now_s: float, load: Load, pools: Sequence[PoolLoad], state: State, aims: Aims
) -> tuple[dict[str, int], State]:
    """The desired replicas of each pool, within its bounds, and the state for the next call."""
    state = State(
        _buckets(now_s, load, state.buckets, aims), _starting(now_s, pools, state.starting)
    )
    desired = {p.name: min(max(p.target, p.min_replicas), p.max_replicas) for p in pools}
    stalled = _stalled(now_s, pools, state)
    able = {p.name: p.running if p.name in stalled else desired[p.name] for p in pools}
    lacking = _need(load, aims) - sum(p.speed * able[p.name] for p in pools)
    if lacking > NOTHING_S:
        room = {p.name: p.max_replicas - desired[p.name] for p in pools if p.name not in stalled}
        for name, count in cheapest(lacking, pools, room).items():
            desired[name] += count
    elif (keep := _needed_in_window(now_s, load, state, aims)) is not None:
        desired = _give_back(keep, pools, desired, stalled)
    return desired, state


def cheapest(need: float, pools: Sequence[PoolLoad], room: Mapping[str, int]) -> dict[str, int]:
    """The cheapest replicas, at most `room` of each pool, that together have the speed `need`.

    All of them if even all are too slow. Two choices are compared by price. One takes replicas of
    a single pool. The other takes every replica of the pool with the best price for its speed. It
    adds the cheapest replicas of the other pools for the rest. As the need grows, neither the price
    nor the speed of the result falls.
    """
    usable = [p for p in pools if room.get(p.name, 0) > 0]
    if need <= NOTHING_S or not usable:
        return {}
    options = [
        {p.name: math.ceil(need / p.speed - 1e-9)}
        for p in usable
        if p.speed * room[p.name] >= need * (1 - 1e-9)
    ]
    best = min(usable, key=lambda p: (p.price / p.speed, p.name))
    rest = need - best.speed * room[best.name]
    if rest > 0:
        others = {name: n for name, n in room.items() if name != best.name}
        options.append({best.name: room[best.name]} | cheapest(rest, usable, others))
    by_name = {p.name: p for p in usable}

    def cost(option: Mapping[str, int]) -> tuple[float, float, float]:
        price = sum(by_name[name].price * n for name, n in option.items())
        speed = sum(by_name[name].speed * n for name, n in option.items())
        return max(0.0, need * (1 - 1e-9) - speed), price, -speed

    return min(options, key=cost)


def _need(load: Load, aims: Aims) -> float:
    """The speed, in audio seconds per second, that drains the backlog in time."""
    return load.backlog_s / aims.drain_s if load.backlog_s > NOTHING_S else 0.0


def _give_back(
    keep: float, pools: Sequence[PoolLoad], desired: Mapping[str, int], stalled: frozenset[str]
) -> dict[str, int]:
    """The cheapest part of the fleet that still has the speed `keep`, with every pool's minimum.

    The missing replicas of a stalled pool are not counted: they do no work.
    """
    least = {p.name: p.min_replicas for p in pools}
    able = {p.name: p.running if p.name in stalled else desired[p.name] for p in pools}
    more = keep - sum(p.speed * least[p.name] for p in pools)
    room = {name: max(0, able[name] - least[name]) for name in able}
    kept = cheapest(more, pools, room)
    return {name: least[name] + kept.get(name, 0) for name in desired}


def _needed_in_window(now_s: float, load: Load, state: State, aims: Aims) -> float | None:
    """The speed, with some to spare, that would have been enough for the whole window.

    None before the window is full. A speed is enough if it met the drain time throughout. That is
    so if no stretch of time brought more audio than the speed does in the stretch and the drain
    time after it. All audio of a bucket counts as having arrived at the bucket's end. The speed
    must also be at least the mean rate of arrival, or the backlog would grow later.
    """
    buckets = state.buckets
    if now_s - buckets[0].start_s < aims.give_back_after_s:
        return None
    ends_s = [*(bucket.start_s for bucket in buckets[1:]), now_s]
    accepted_s = [*(bucket.accepted_s for bucket in buckets), load.accepted_s]
    accepted_s[0] -= buckets[0].backlog_s  # that backlog counts as arriving in the first bucket
    speeds = [
        (accepted_s[last + 1] - accepted_s[first]) / (ends_s[last] - ends_s[first] + aims.drain_s)
        for first in range(len(buckets))
        for last in range(first, len(buckets))
    ]
    arriving = (load.accepted_s - buckets[0].accepted_s) / (now_s - buckets[0].start_s)
    return max(_need(load, aims), arriving, *speeds) * SPARE


def _buckets(
    now_s: float, load: Load, buckets: tuple[_Bucket, ...], aims: Aims
) -> tuple[_Bucket, ...]:
    """The window's buckets, with this moment added and buckets older than the window removed."""
    if buckets and load.accepted_s < buckets[-1].accepted_s:
        buckets = ()  # the counter began again, because the dispatcher was replaced
    if not buckets or now_s - buckets[-1].start_s >= aims.give_back_after_s / BUCKETS:
        buckets = (*buckets, _Bucket(now_s, load.backlog_s, load.accepted_s))
    while len(buckets) > 1 and now_s - buckets[1].start_s >= aims.give_back_after_s:
        buckets = buckets[1:]
    return buckets


def _starting(
    now_s: float, pools: Sequence[PoolLoad], before: Mapping[str, _Starting]
) -> dict[str, _Starting]:
    """The pools with fewer replicas than asked for. A new replica restarts their waiting time."""
    return {
        p.name: before[p.name]
        if p.name in before and before[p.name].running >= p.running
        else _Starting(p.running, now_s)
        for p in pools
        if p.running < p.target
    }


def _stalled(now_s: float, pools: Sequence[PoolLoad], state: State) -> frozenset[str]:
    """Pools whose replicas do not start: no such machine is there, or it is full."""
    return frozenset(
        p.name
        for p in pools
        if p.name in state.starting
        and now_s - state.starting[p.name].since_s > START_PATIENCE * p.start_s
    )


# From here on: `serve_policy`, the application's `autoscaling_policy`. Serve's controller calls it
# in each round of its loop. Serve pickles this module by value, and the controller has no
# runtime_env. Therefore this module imports only the standard library, and Ray in its functions.

# Names of the figures that the dispatcher reports. A deployment's name follows the last three.
BACKLOG, ACCEPTED = "backlog_audio_s", "accepted_audio_s"
DRAIN, GIVE_BACK = "drain_s", "give_back_after_s"
SPEED, PRICE, START = "speed:", "price_per_hour:", "start_s:"
STATE = "pools"  # key of our state, beside Serve's own keys
STALE_S = 60.0  # a report older than this is ignored, and no replica is started or stopped


def serve_policy(
    contexts: Mapping[Any, AutoscalingContext],
) -> tuple[dict[Any, float], dict[Any, dict[str, Any]]]:
    """Desired replicas by deployment id, and the state that Serve returns with the next call.

    A deployment is a pool if the dispatcher reports its price. The other deployments follow Serve's
    default policy. Without a fresh report nothing is decided.
    """
    from ray.serve.autoscaling_policy import default_autoscaling_policy

    reporter = next((key for key, context in contexts.items() if _report(context)), None)
    if reporter is None:
        return {}, {
            key: {STATE: context.policy_state[STATE]}
            for key, context in contexts.items()
            if STATE in context.policy_state
        }
    stats, now_s = _report(contexts[reporter]), contexts[reporter].current_time
    ids = {
        c.deployment_name: key for key, c in contexts.items() if PRICE + c.deployment_name in stats
    }
    desired, state = decide(
        now_s or 0.0,
        Load(stats[BACKLOG], stats[ACCEPTED]),
        [_pool_load(contexts[key], stats) for key in ids.values()],
        contexts[reporter].policy_state.get(STATE, State()),
        Aims(stats[DRAIN], stats[GIVE_BACK]),
    )
    answer: dict[Any, float] = {
        key: default_autoscaling_policy(context)[0]
        for key, context in contexts.items()
        if key not in ids.values()
    }
    answer |= {ids[name]: n_replicas for name, n_replicas in desired.items()}
    return answer, {reporter: {STATE: state}}


def _report(context: AutoscalingContext) -> dict[str, float]:
    """The last figures of a deployment that reports a backlog; empty if it is stale or has none."""
    metrics = context.raw_metrics or {}
    oldest_s = (context.current_time or 0.0) - STALE_S
    if not any(points[-1].timestamp > oldest_s for points in metrics.get(BACKLOG, {}).values()):
        return {}
    return {
        name: points[-1].value
        for name, by_replica in metrics.items()
        for points in by_replica.values()
    }


def _pool_load(context: AutoscalingContext, stats: Mapping[str, float]) -> PoolLoad:
    name = context.deployment_name
    return PoolLoad(
        name,
        running=context.current_num_replicas,
        target=context.target_num_replicas,
        min_replicas=context.capacity_adjusted_min_replicas,
        max_replicas=context.capacity_adjusted_max_replicas,
        speed=stats[SPEED + name],
        price=stats[PRICE + name],
        start_s=stats[START + name],
    )
