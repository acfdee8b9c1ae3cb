"""How many replicas every pool should have: one policy over all pools (DESIGN 12).

    decide(now_s, load, pools, state, aims) -> (desired, state)

Grow: the backlog, over the drain time that the configuration states, is the speed that is needed;
what the pools lack of it is bought as cheaply as it can be had, at once. Give back: the cheapest
part of the fleet that would have met the drain time with all that arrived in the last window is
kept, so the dearest goes first. Need is measured, never multiplied, and shrinking asks of the past
what growing will ask of the future: a square wave of load, noise, or replicas that start late do
not make the fleet swing (ray-project/ray#63279: 500 <-> 2000 replicas every minute, from a factor
on the error and no memory). `decide` is pure; `serve_policy` at the end is what Serve calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

BUCKETS = 20  # stretches that the window is remembered in
SPARE = 1.15  # what is kept can do this much more than the window needed: no step up again at once
START_PATIENCE = 3.0  # times a pool's start time; then what it asked for is taken as not to be had
NOTHING_S = 1e-3  # audio seconds that are no backlog, and audio seconds a second that are no need


@dataclass(frozen=True, slots=True)
class Aims:
    """What the configuration asks of autoscaling."""

    drain_s: float  # a backlog is to be gone within this time
    give_back_after_s: float  # window in which a replica must not have been needed; >= drain_s


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done, in audio seconds: waiting and under way, and ever accepted so far."""

    backlog_s: float
    accepted_s: float


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it is now."""

    name: str
    running: int
    target: int  # replicas asked for before; those that do not run yet are starting
    min_replicas: int
    max_replicas: int
    speed: float  # audio seconds a second and replica, as measured
    price: float  # of one replica and hour, in any currency; more than 0
    start_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Bucket:
    """When a stretch of the window began, and the load then."""

    start_s: float
    backlog_s: float
    accepted_s: float


@dataclass(frozen=True, slots=True)
class _Starting:
    """A pool that runs less than was asked for, and since when it has made no progress."""

    running: int
    since_s: float


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between two decisions."""

    buckets: tuple[_Bucket, ...] = ()  # oldest first
    starting: Mapping[str, _Starting] = field(default_factory=dict)


def decide(
    now_s: float, load: Load, pools: Sequence[Pool], state: State, aims: Aims
) -> tuple[dict[str, int], State]:
    """Desired replicas of each pool, within its bounds, and the state for the next call."""
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


def cheapest(need: float, pools: Sequence[Pool], room: Mapping[str, int]) -> dict[str, int]:
    """Replicas, at most `room` of each pool, that together reach `need`; all where none do.

    The cheapest pool that meets the need alone, or all of the pool of the best price for its speed
    with the cheapest of the others beside it, whichever costs less. What it costs, and its speed,
    never fall as the need grows.
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
    """Audio seconds a second that would drain the backlog in time."""
    return load.backlog_s / aims.drain_s if load.backlog_s > NOTHING_S else 0.0


def _give_back(
    keep: float, pools: Sequence[Pool], desired: Mapping[str, int], stalled: frozenset[str]
) -> dict[str, int]:
    """The cheapest part of what is there that still does `keep`, every pool at its least or more.

    What a stalled pool asked for and did not get costs nothing and is not counted.
    """
    least = {p.name: p.min_replicas for p in pools}
    able = {p.name: p.running if p.name in stalled else desired[p.name] for p in pools}
    more = keep - sum(p.speed * least[p.name] for p in pools)
    room = {name: max(0, able[name] - least[name]) for name in able}
    kept = cheapest(more, pools, room)
    return {name: least[name] + kept.get(name, 0) for name in desired}


def _needed_in_window(now_s: float, load: Load, state: State, aims: Aims) -> float | None:
    """The least speed that would have met the drain time all through the last window and for ever
    after, and some to spare; None before the window is full.

    A fleet of speed c meets it if no stretch of time brought more than c does in that stretch and
    the drain time; what came in a bucket is taken as come at its end. It can go on if it does what
    arrives.
    """
    buckets = state.buckets
    if now_s - buckets[0].start_s < aims.give_back_after_s:
        return None
    ends_s = [*(bucket.start_s for bucket in buckets[1:]), now_s]
    accepted_s = [*(bucket.accepted_s for bucket in buckets), load.accepted_s]
    accepted_s[0] -= buckets[0].backlog_s  # as if it had come in the first bucket
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
    """The window's, with this moment in them and what is older gone."""
    if buckets and load.accepted_s < buckets[-1].accepted_s:
        buckets = ()  # the counter began again: the dispatcher was replaced
    if not buckets or now_s - buckets[-1].start_s >= aims.give_back_after_s / BUCKETS:
        buckets = (*buckets, _Bucket(now_s, load.backlog_s, load.accepted_s))
    while len(buckets) > 1 and now_s - buckets[1].start_s >= aims.give_back_after_s:
        buckets = buckets[1:]
    return buckets


def _starting(
    now_s: float, pools: Sequence[Pool], before: Mapping[str, _Starting]
) -> dict[str, _Starting]:
    """The pools that run less than was asked for; progress begins their time anew."""
    return {
        p.name: before[p.name]
        if p.name in before and before[p.name].running >= p.running
        else _Starting(p.running, now_s)
        for p in pools
        if p.running < p.target
    }


def _stalled(now_s: float, pools: Sequence[Pool], state: State) -> frozenset[str]:
    """Pools whose replicas do not come: no such machine is there, or it is full."""
    return frozenset(
        p.name
        for p in pools
        if p.name in state.starting
        and now_s - state.starting[p.name].since_s > START_PATIENCE * p.start_s
    )


# Serve's side: the application's `autoscaling_policy`, which Serve's controller calls at every turn
# of its loop. Serve pickles this module by value and the controller knows no runtime_env: nothing
# is imported but the standard library, and Ray where it runs.

# What the dispatcher reports; the last three end with a deployment's name.
BACKLOG, ACCEPTED = "backlog_audio_s", "accepted_audio_s"
DRAIN, GIVE_BACK = "drain_s", "give_back_after_s"
SPEED, PRICE, START = "speed:", "price_per_hour:", "start_s:"
STATE = "pools"  # key of our state beside Serve's own
STALE_S = 60.0  # a report older than this says nothing: replicas stay as they are


def serve_policy(
    contexts: Mapping[Any, AutoscalingContext],
) -> tuple[dict[Any, float], dict[Any, dict[str, Any]]]:
    """Desired replicas by deployment id, and the state that Serve hands back with the next call.

    Pools are the deployments whose price the dispatcher reports; the others follow Serve's default
    policy. Without a fresh report nothing is decided.
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
        [_pool(contexts[key], stats) for key in ids.values()],
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
    """The last figures of a deployment that reports a backlog, where they are fresh; else none."""
    metrics = context.raw_metrics or {}
    oldest_s = (context.current_time or 0.0) - STALE_S
    if not any(points[-1].timestamp > oldest_s for points in metrics.get(BACKLOG, {}).values()):
        return {}
    return {
        name: points[-1].value
        for name, by_replica in metrics.items()
        for points in by_replica.values()
    }


def _pool(context: AutoscalingContext, stats: Mapping[str, float]) -> Pool:
    name = context.deployment_name
    return Pool(
        name,
        running=context.current_num_replicas,
        target=context.target_num_replicas,
        min_replicas=context.capacity_adjusted_min_replicas,
        max_replicas=context.capacity_adjusted_max_replicas,
        speed=stats[SPEED + name],
        price=stats[PRICE + name],
        start_s=stats[START + name],
    )
