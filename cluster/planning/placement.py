"""Which pools a fleet should have: takes machines, returns pools with their reasons. Pure.

`place` gives the whole answer, for `python -m cluster plan`. `auto_pools`, `auto_stages` and
`resolve_dtype` give parts of it, which a deployment with `pools: auto` asks for.

Each type of card becomes a pool. Every card has room for VAD and punctuation (`cards.py`). A fleet
without usable cards gets one CPU pool, whose replicas have one thread each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cluster.planning.cards import (
    Reserve,
    Share,
    card_profile,
    refusal,
    reserve_for,
    share_card,
    usable_mib,
)
from cluster.planning.cpus import OTHERS_CPUS, cpu_pool, cpu_reasons, n_replicas
from deployments.config import RESERVED, Pool

ASR_CPUS = 1.0  # a GPU replica has one thread, which launches kernels, reads audio and spells text
# A small machine may give a replica less than it uses, since Ray counts CPUs but limits no use.
LEAST_ASR_CPUS = 0.05
# A label for cards that Ray does not tell apart: `ray start --labels gpu-model=A100-80G`.
CARD_LABEL = "gpu-model"
MOST_FOR_STAGES = 0.4  # of a card, for VAD and punctuation; if they need more, they run on CPUs
# Cards to which Ray gives the same type. For all others Ray's type is the name used here.
RAY_TYPES = {"A100-40G": "A100", "A100-80G": "A100"}


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster, as Ray counts it."""

    num_cpus: float
    num_gpus: float = 0.0
    accelerator_type: str = ""
    memory_mib: float | None = None  # None: not known, and taken as enough
    may_be_absent: bool = False  # joins and leaves; a pool of only such machines starts at zero

    @property
    def n_cards(self) -> int:
        return int(self.num_gpus)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A part of the fleet that is left out, and why."""

    what: str
    why: str


@dataclass(slots=True)
class Placement:
    """The pools of a fleet, with the reason of each number."""

    dtype: str
    pools: dict[str, Pool]
    reserve: Reserve
    spare_cpus: int  # whole cores that no deployment reserves, for more replicas of the stages
    per_card: dict[str, int] = field(default_factory=dict)  # pool -> replicas on each card
    always: dict[str, int] = field(default_factory=dict)  # pool -> cards that are always there
    unplaced: list[Unplaced] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)  # (pool, field) -> sentence

    @property
    def on_gpus(self) -> bool:
        return any(pool.num_gpus for pool in self.pools.values())


def place(
    nodes: Sequence[Node],
    *,
    dtype: str | None = None,
    n_vad: int = 1,
    n_punctuation: int = 1,
    vad_on_gpu: bool = True,
    batch_takes_s: float | None = None,
) -> Placement:
    """One pool for each type of card that can serve, or one CPU pool; and why others are left out.

    With `dtype` None the best one for all cards is chosen. Each card has room for `n_vad` and
    `n_punctuation` replicas of these stages. If that takes too much of some type of card, the VAD
    runs on CPUs, and if need be the punctuation too.
    """
    dtype = dtype or resolve_dtype(nodes)
    placement = Placement(dtype, {}, Reserve(), 0)
    usable = _usable(nodes, dtype, placement)
    if not usable:
        cores = sum(node.num_cpus for node in nodes)
        held = sum(n_replicas(node.num_cpus, node.memory_mib) for node in nodes)
        placement.pools["cpu"] = cpu_pool(cores, held)
        placement.reasons |= {("cpu", key): why for key, why in cpu_reasons(cores).items()}
        return placement
    wanted = Reserve(float(vad_on_gpu), 1.0, n_vad, n_punctuation)
    placement.reserve = _reserve(usable, dtype, wanted)
    for name, members in _by_type(usable).items():
        share = share_card(
            members[0].accelerator_type, dtype, placement.reserve, batch_takes_s=batch_takes_s
        )
        assert isinstance(share, Share)  # `_reserve` returns only a reserve that leaves room
        placement.pools[name] = _gpu_pool(members, share, ambiguous=_ambiguous(members[0], usable))
        placement.per_card[name] = share.n_replicas
        placement.always[name] = sum(n.n_cards for n in members if not n.may_be_absent)
        placement.reasons |= {(name, key): why for key, why in share.reasons.items()}
        placement.reasons |= _count_reasons(name, members, share, placement.pools[name])
    placement.spare_cpus = _spare_cpus(nodes, usable, placement.pools)
    placement.notes += _notes(usable, dtype)
    return placement


def resolve_dtype(nodes: Sequence[Node]) -> str:
    """The dtype of all pools: fp16 if every GPU has Tensor Cores, else fp32.

    A card that cannot serve in fp32 either does not count. See DESIGN, Number formats.
    """
    types = {n.accelerator_type for n in nodes if n.n_cards and not _too_few_cpus(n)}
    if any(refusal(t, "fp16") and not refusal(t, "fp32") for t in types):
        return "fp32"
    return "fp16" if any(not refusal(t, "fp16") for t in types) else "fp32"


def auto_pools(
    nodes: Sequence[Node], dtype: str, *, n_vad: int = 1, n_punctuation: int = 1
) -> dict[str, Pool]:
    """One pool for each type of GPU in the fleet, or one CPU pool if there is no GPU."""
    return place(nodes, dtype=dtype, n_vad=n_vad, n_punctuation=n_punctuation).pools


def auto_stages(
    nodes: Sequence[Node], dtype: str, *, n_vad: int = 1, n_punctuation: int = 1
) -> tuple[float, float]:
    """GPU fractions of VAD and punctuation, 0 if no GPU has room for them."""
    reserve = place(nodes, dtype=dtype, n_vad=n_vad, n_punctuation=n_punctuation).reserve
    return reserve.vad, reserve.punctuation


def pool_name(accelerator_type: str) -> str:
    """The type as a name that the configuration allows: letters, digits, '-' and '_'."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", accelerator_type).strip("-_") or "gpu"
    return f"{name}-gpu" if name in RESERVED else name


def _usable(nodes: Sequence[Node], dtype: str, placement: Placement) -> list[Node]:
    """The machines whose cards can serve. The others are added to `placement.unplaced`."""
    usable = []
    for node in (node for node in nodes if node.n_cards):
        why = refusal(node.accelerator_type, dtype) or _too_few_cpus(node)
        if why is None:
            usable.append(node)
        else:
            name = node.accelerator_type or "a card without a name"
            placement.unplaced.append(Unplaced(f"{node.n_cards} x {name}", why))
    return usable


def _too_few_cpus(node: Node) -> str | None:
    needed = OTHERS_CPUS + LEAST_ASR_CPUS * node.n_cards
    if node.num_cpus < needed - 1e-9:
        return f"{node.num_cpus:g} CPUs for {node.n_cards} cards; at least {needed:.2f} are needed"
    return None


def _reserve(usable: Sequence[Node], dtype: str, wanted: Reserve) -> Reserve:
    """The room for the stages on every card: for both, for the punctuation alone, or for none.

    In `wanted` the fraction of a stage that is to run on CPUs is 0.
    """
    types = {node.accelerator_type for node in usable}
    full = reserve_for(min(usable_mib(card_profile(name)) for name in types), wanted)
    for reserve in (full, replace(full, vad=0.0)):
        fits = not any(isinstance(share_card(name, dtype, reserve), str) for name in types)
        if fits and reserve.total <= MOST_FOR_STAGES:
            return reserve
    return replace(full, vad=0.0, punctuation=0.0)


def _by_type(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    types: dict[str, list[Node]] = {}
    for node in nodes:
        types.setdefault(pool_name(node.accelerator_type), []).append(node)
    return types


def _ambiguous(node: Node, usable: Sequence[Node]) -> bool:
    """Whether Ray gives another type of usable card the same name, so that a label is needed."""
    ray_type = RAY_TYPES.get(node.accelerator_type, node.accelerator_type)
    same = {n.accelerator_type for n in usable if RAY_TYPES.get(n.accelerator_type) == ray_type}
    return len(same | {node.accelerator_type}) > 1


def _gpu_pool(nodes: Sequence[Node], share: Share, *, ambiguous: bool) -> Pool:
    kind = nodes[0].accelerator_type
    return Pool(
        accelerator_type=RAY_TYPES.get(kind, kind) or None,
        node_labels={CARD_LABEL: kind} if ambiguous else {},
        num_cpus=_asr_cpus(nodes, share.n_replicas),
        num_gpus=share.fraction,
        min_replicas=0 if all(node.may_be_absent for node in nodes) else 1,
        max_replicas=share.n_replicas * sum(node.n_cards for node in nodes),
        batch_audio_s=share.batch_audio_s,
        speed=share.speed,
    )


def _asr_cpus(nodes: Sequence[Node], per_card: int) -> float:
    """CPUs of a replica, so that each machine holds its replicas and the other deployments."""
    each = min((node.num_cpus - OTHERS_CPUS) / (per_card * node.n_cards) for node in nodes)
    return max(0.01, min(ASR_CPUS, math.floor(each * 100 + 1e-9) / 100))


def _spare_cpus(nodes: Sequence[Node], usable: Sequence[Node], pools: dict[str, Pool]) -> int:
    """Whole cores that are left, over all machines but those that may be absent."""
    spare = 0
    for node in nodes:
        if node.may_be_absent:
            continue
        declared = OTHERS_CPUS
        if node in usable:
            pool = pools[pool_name(node.accelerator_type)]
            declared += pool.num_cpus * node.n_cards * int(1 / pool.num_gpus)
        spare += max(0, math.floor(node.num_cpus - declared + 1e-9))
    return spare


def _count_reasons(
    name: str, nodes: Sequence[Node], share: Share, pool: Pool
) -> dict[tuple[str, str], str]:
    cards = sum(node.n_cards for node in nodes)
    always = sum(node.n_cards for node in nodes if not node.may_be_absent)
    low = "one is ready at once; more start when work waits" if always else "may be absent"
    tightest = min(nodes, key=lambda node: node.num_cpus / node.n_cards)
    return {
        (name, "max_replicas"): f"{cards} cards x {share.n_replicas} replicas each",
        (name, "min_replicas"): low,
        (name, "num_cpus"): f"{tightest.num_cpus:g} CPUs for {tightest.n_cards * share.n_replicas} "
        f"replicas of one thread, {OTHERS_CPUS:g} kept for the other deployments",
    }


def _notes(usable: Sequence[Node], dtype: str) -> list[str]:
    types = sorted({node.accelerator_type for node in usable})
    notes = []
    plain = [name for name in types if not card_profile(name).tensor_cores]
    if plain and len(plain) < len(types):
        notes.append(
            f"{', '.join(plain)} without known Tensor Cores put the whole application on fp32. The "
            "others then have about an eighth of their speed; consider leaving those cards out."
        )
    labelled = [name for name in types if _ambiguous(Node(0.0, 1.0, name), usable)]
    if labelled:
        notes.append(
            f"Ray does not distinguish {' and '.join(labelled)}: start each machine with "
            f"`ray start --labels {CARD_LABEL}=...`."
        )
    return notes
