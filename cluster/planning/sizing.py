"""Turns a fleet and its traffic into the application's arguments, with reasons. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cluster.planning.cards import card_profile
from cluster.planning.placement import CARD_LABEL, Node, Placement, place
from cluster.planning.traffic import (
    PRIOR_TRUST,
    STAGE_SPEEDS,
    Traffic,
    busy,
    capacity_needed,
    p95_s,
)
from deployments.config import AppConfig, Pool

Args: TypeAlias = dict[str, Any]
Reasons: TypeAlias = dict[tuple[str, ...], str]

SLICE_OF_AIM = 10  # a full batch takes at most a tenth of the aimed latency
POOL_KEYS = (
    "accelerator_type",
    "node_labels",
    "num_gpus",
    "num_cpus",
    "num_threads",
    "min_replicas",
    "max_replicas",
    "batch_audio_s",
    "speed",
)
ALWAYS_SAID = ("num_gpus", "min_replicas")  # written also if they are 0
MODELS = {"vad": "fsmn-vad", "asr": "paraformer-zh", "punctuation": "ct-punc-zh"}


@dataclass(slots=True)
class FleetPlan:
    """What to deploy and why, what to expect of it, and what was left out."""

    placement: Placement
    args: Args  # of AppConfig, without those that have their default
    reasons: Reasons
    speeds: dict[str, float]  # audio s/s that each part can do: "ASR", "VAD", ...
    traffic: Traffic
    needed: float  # audio s/s; 0 if no traffic was given
    problems: list[str] = field(default_factory=list)

    @property
    def bottleneck(self) -> str:
        return min(self.speeds, key=lambda name: self.speeds[name])

    @property
    def capacity(self) -> float:
        return self.speeds[self.bottleneck]


def make_plan(nodes: Sequence[Node], traffic: Traffic | None = None) -> FleetPlan:
    """The plan of a fleet. Raises BadRequest if no fleet can meet the aim."""
    traffic = traffic or Traffic()
    needed = capacity_needed(traffic) if traffic.hours_per_day or traffic.p95_s else 0.0
    takes_s = traffic.p95_s / SLICE_OF_AIM if traffic.p95_s else None
    first = place(nodes, batch_takes_s=takes_s)
    wanted = needed or _asr_speed(first)
    counts = size_stages(wanted, first.spare_cpus, punctuation_on_gpu=first.reserve.punctuation > 0)
    placement = place(
        nodes,
        n_vad=counts["vad"],
        n_punctuation=counts["punctuation"],
        batch_takes_s=takes_s,
        vad_on_gpu=counts["vad"] == 1,
    )
    keep_warm(placement, nodes, needed)
    speeds = {"ASR": _asr_speed(placement)} | {
        title: counts[stage] * STAGE_SPEEDS[key].audio_s_per_s
        for title, stage, key in _stage_keys(placement.reserve.punctuation > 0)
    }
    args, reasons = _args(placement, counts, traffic)
    AppConfig.model_validate(args)  # a plan that the service refuses would be a bug of this module
    plan = FleetPlan(placement, args, reasons, speeds, traffic, needed)
    plan.problems = _problems(plan)
    return plan


def size_stages(wanted: float, spare_cpus: int, *, punctuation_on_gpu: bool) -> dict[str, int]:
    """Replicas of each stage: the slowest gets spare cores until all are as fast as wanted."""
    keys = {stage: key for _, stage, key in _stage_keys(punctuation_on_gpu)}
    counts = dict.fromkeys(keys, 1)
    while True:
        speeds = {s: counts[s] * STAGE_SPEEDS[key].audio_s_per_s for s, key in keys.items()}
        slowest = min(speeds, key=lambda stage: speeds[stage])
        cores = STAGE_SPEEDS[keys[slowest]].cores
        if speeds[slowest] >= wanted or cores > spare_cpus:
            return counts
        counts[slowest] += 1
        spare_cpus -= cores


def keep_warm(placement: Placement, nodes: Sequence[Node], needed: float) -> None:
    """Raises `min_replicas`, the cheapest first, until replicas that always run meet the need."""
    if not needed or not placement.on_gpus:
        return
    missing = needed / PRIOR_TRUST
    warm: dict[str, int] = {}
    for name in sorted(placement.pools, key=lambda name: _cost(placement.pools[name], nodes)):
        pool, cards = placement.pools[name], placement.always[name]
        most = cards * placement.per_card[name]
        warm[name] = min(most, max(pool.min_replicas, math.ceil(missing / pool.speed)))
        missing = max(0.0, missing - warm[name] * pool.speed)
        placement.pools[name] = pool.model_copy(update={"min_replicas": warm[name]})
        placement.reasons[name, "min_replicas"] = (
            f"run also without work, because {needed:.0f} audio s/s are needed at the peak"
            if cards
            else "may be absent"
        )


def _cost(pool: Pool, nodes: Sequence[Node]) -> tuple[float, float]:
    """Sorting key of a pool: cheapest audio first if prices are known, then fastest first."""
    kind = pool.node_labels.get(CARD_LABEL) or pool.accelerator_type or ""
    price = card_profile(kind).price
    return (price.usd_per_h * pool.num_gpus / pool.speed if price else math.inf, -pool.speed)


def _asr_speed(placement: Placement) -> float:
    trust = PRIOR_TRUST if placement.on_gpus else 1.0  # the speed of a CPU is measured
    return sum(pool.speed * pool.max_replicas for pool in placement.pools.values()) * trust


def _stage_keys(punctuation_on_gpu: bool) -> list[tuple[str, str, str]]:
    """(title, section of the configuration, row of STAGE_SPEEDS)."""
    where = "punctuation-gpu" if punctuation_on_gpu else "punctuation-cpu"
    return [
        ("VAD", "vad", "vad"),
        ("punctuation", "punctuation", where),
        ("decoding", "router", "router"),
    ]


def _args(placement: Placement, counts: dict[str, int], traffic: Traffic) -> tuple[Args, Reasons]:
    reserve = placement.reserve
    args: Args = {
        "models": dict(MODELS),
        "dtype": placement.dtype,
        "vad": {
            "num_gpus": reserve.vad,
            "max_replicas": counts["vad"],
        },
        "punctuation": {
            "num_gpus": reserve.punctuation,
            "max_replicas": counts["punctuation"],
        },
        "router": {"max_replicas": counts["router"]},
        "pools": {name: _pool_args(pool) for name, pool in placement.pools.items()},
    }
    reasons: Reasons = {("pools", *key): why for key, why in placement.reasons.items()}
    reasons |= _stage_reasons(placement)
    if traffic.p95_s is not None:
        args["dispatcher"] = {"max_queue_s": traffic.p95_s}
        reasons["dispatcher", "max_queue_s"] = "a request that would wait longer gets a 503 at once"
    return args, reasons


def _pool_args(pool: Pool) -> Args:
    """The settings of a pool that the plan decided, in the order in which people read them."""
    values = pool.model_dump(include=set(POOL_KEYS))
    if pool.num_gpus:
        del values["num_threads"]  # only calls on the CPU use it
    return {key: values[key] for key in POOL_KEYS if values.get(key) or key in ALWAYS_SAID}


def _stage_reasons(placement: Placement) -> Reasons:
    reserve = placement.reserve
    where = {
        "vad": f"on a GPU: {reserve.vad:g} of the smallest card holds its context and weights"
        if reserve.vad
        else "on CPUs: its network is small, and each replica on a GPU would cost a CUDA context",
        "punctuation": f"on a GPU: {reserve.punctuation:g} of the smallest card holds context, "
        "weights and 16 documents"
        if reserve.punctuation
        else "on CPUs: no card has room for it",
    }
    dtype = {
        "fp16": "all pools have one dtype, and every card used has Tensor Cores",
        "fp32": "all pools have one dtype, and a card used, or the CPU, has no Tensor Cores",
    }
    reasons: Reasons = {("dtype",): dtype.get(placement.dtype, "as asked")}
    reasons |= {(stage, "num_gpus"): why for stage, why in where.items()}
    for _, stage, key in _stage_keys(reserve.punctuation > 0):
        speed = STAGE_SPEEDS[key]
        reasons[stage, "max_replicas"] = (
            f"each does {speed.audio_s_per_s:.0f} audio s/s ({speed.source}) and takes "
            f"{speed.cores} of the spare cores"
        )
    return reasons


def _problems(plan: FleetPlan) -> list[str]:
    """What a reader should know before deploying the plan."""
    problems = [f"{one.what} left out: {one.why}." for one in plan.placement.unplaced]
    problems += plan.placement.notes
    asr, traffic = plan.speeds["ASR"], plan.traffic
    if plan.capacity < (plan.needed or asr):
        cure = "more cards" if plan.bottleneck == "ASR" else "machines with more CPUs"
        problems.append(
            f"{plan.bottleneck} is the narrow part: {plan.capacity:.0f} audio s/s, where "
            f"{plan.needed or asr:.0f} {'are needed' if plan.needed else 'could be recognised'}; "
            f"it takes {cure}."
        )
    always = sum(
        pool.speed * plan.placement.per_card[name] * plan.placement.always[name] * PRIOR_TRUST
        for name, pool in plan.placement.pools.items()
        if pool.num_gpus
    )
    if plan.placement.on_gpus and always < plan.needed <= asr:
        problems.append(
            f"The aims hold only while the cards that may be absent are there. Without them ASR "
            f"does {always:.0f} audio s/s."
        )
    if traffic.p95_s is not None and p95_s(traffic, plan.capacity) > traffic.p95_s:
        problems.append(
            f"p95 of {traffic.p95_s:g} s is not met: {p95_s(traffic, plan.capacity):.0f} s "
            f"expected, {100 * busy(traffic, plan.capacity):.0f} % busy at the peak."
        )
    return problems
