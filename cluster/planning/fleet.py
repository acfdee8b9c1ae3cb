"""The machines of a fleet, from text such as "T4:4,2x(L4:1,cpu:8)" or from a Ray cluster. Pure.

Text and what it means:

    T4:4             a machine of four cards, with 4 CPUs for each card
    T4:0-4           up to four machines of one card, which may all be absent
    2x(T4:4,cpu:48)  two machines, each of four cards and 48 CPUs
    cpu:16           a machine without a card
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.planning.placement import CARD_LABEL, Node
from cluster.profiles import PROFILES, words
from deployments.core.errors import BadRequest

CPUS_PER_CARD = 4.0  # as in the smallest machines that clouds rent with a T4, an L4 or an A10G
TYPE_PREFIX = "accelerator_type:"

_GROUP = re.compile(r"(?:(?P<times>\d+)\s*x\s*)?\((?P<inside>[^()]*)\)|(?P<plain>[^(),]+)")
_ITEM = re.compile(r"(?P<name>[^:]*[^:\s])\s*(?::\s*(?P<least>\d+)(?:-(?P<most>\d+))?)?")


def parse_fleet(text: str) -> list[Node]:
    """The machines that the text describes. Raises BadRequest for a part that cannot be read."""
    nodes: list[Node] = []
    for part in _parts(text):
        group = _GROUP.fullmatch(part)
        if group is None:
            raise BadRequest(f"{part!r} is not a machine; write T4:4, T4:0-4 or 2x(T4:4,cpu:48)")
        if group["plain"]:
            nodes += _loose(part)
        else:
            nodes += [_machine(group["inside"])] * int(group["times"] or 1)
    if not nodes:
        raise BadRequest("the fleet has no machine; write for example T4:4,L4:2")
    return nodes


def nodes_of(ray_nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The machines of `ray.nodes()` that are alive."""
    return [_from_ray(node) for node in ray_nodes if node["Alive"]]


def known_name(name: str) -> str:
    """A card's name as Ray spells it: "rtx 4090" is GeForce-RTX-4090. Unknown names stay."""
    same = [key for key in PROFILES if words(key) == words(name)]
    return (same[0] if same else name.strip()).replace(" ", "-")


def _parts(text: str) -> list[str]:
    """The parts of the text between commas that are outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _item(text: str) -> tuple[str, int, int]:
    """(name, least, most) of "T4:0-4". A name alone means one card."""
    item = _ITEM.fullmatch(text.strip())
    if item is None:
        raise BadRequest(f"{text.strip()!r} is not a number of cards; write T4:4 or T4:0-4")
    least = int(item["least"] or 1)
    most = int(item["most"] or least)
    if most < max(1, least):
        raise BadRequest(
            f"{text.strip()!r}: in LEAST-MOST, MOST must be at least 1 and not below LEAST"
        )
    return item["name"], least, most


def _loose(text: str) -> list[Node]:
    name, least, most = _item(text)
    if name.lower() == "cpu":
        return [Node(num_cpus=float(most))]
    card = known_name(name)
    always = [Node(least * CPUS_PER_CARD, float(least), card)] if least else []
    perhaps = Node(CPUS_PER_CARD, 1.0, card, may_be_absent=True)
    return always + [perhaps] * (most - least)


def _machine(text: str) -> Node:
    n_cpus, cards = 0, dict[str, int]()
    for part in _parts(text):
        name, least, most = _item(part)
        if least != most:
            raise BadRequest(f"{part!r}: write cards that may be absent outside parentheses")
        if name.lower() == "cpu":
            n_cpus = most
        else:
            cards[known_name(name)] = most
    if len(cards) > 1:
        raise BadRequest(
            f"({text}): Ray knows only one type of card in a machine; write two machines"
        )
    if not cards and not n_cpus:
        raise BadRequest(f"({text}) has neither a card nor a CPU")
    card, count = next(iter(cards.items()), ("", 0))
    return Node(float(n_cpus or count * CPUS_PER_CARD), float(count), card)


def _from_ray(node: Mapping[str, Any]) -> Node:
    resources: Mapping[str, float] = node["Resources"]
    labels: Mapping[str, str] = node.get("Labels") or {}
    types = [key.removeprefix(TYPE_PREFIX) for key in resources if key.startswith(TYPE_PREFIX)]
    return Node(
        num_cpus=resources.get("CPU", 0.0),
        num_gpus=resources.get("GPU", 0.0),
        accelerator_type=labels.get(CARD_LABEL, types[0] if types else ""),
        memory_mib=resources["memory"] / 2**20 if "memory" in resources else None,
    )
