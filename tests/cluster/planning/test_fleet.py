"""A fleet is read from text, or from the nodes of a Ray cluster."""

from __future__ import annotations

import pytest

from cluster.planning.fleet import known_name, nodes_of, parse_fleet
from cluster.planning.placement import Node
from deployments.core.errors import BadRequest


@pytest.mark.parametrize(
    ("line", "nodes"),
    [
        ("T4", [Node(4, 1, "T4")]),
        ("T4:4, L4:2", [Node(16, 4, "T4"), Node(8, 2, "L4")]),
        ("2x(T4:4,cpu:48),L4:1", [Node(48, 4, "T4"), Node(48, 4, "T4"), Node(4, 1, "L4")]),
        ("T4:0-2", [Node(4, 1, "T4", may_be_absent=True)] * 2),
        ("T4:1-2", [Node(4, 1, "T4"), Node(4, 1, "T4", may_be_absent=True)]),
        ("cpu:16", [Node(16)]),
        ("(cpu:8)", [Node(8)]),
        ("rtx 4090:2", [Node(8, 2, "GeForce-RTX-4090")]),
        ("card of next year:1", [Node(4, 1, "card-of-next-year")]),
    ],
)
def test_text_is_read_as_machines(line: str, nodes: list[Node]) -> None:
    assert parse_fleet(line) == nodes


@pytest.mark.parametrize(
    "line", ["", ",", "T4:", "T4:x", "T4:3-1", "T4:0", "2x()", "(T4:1,L4:1)", "(T4:0-2)", "2xT4(1)"]
)
def test_text_that_cannot_be_read_is_refused_with_a_reason(line: str) -> None:
    with pytest.raises(BadRequest, match=r"T4|card|machine"):
        parse_fleet(line)


@pytest.mark.parametrize(
    ("typed", "known"),
    [("t4", "T4"), ("4090", "4090"), ("geforce rtx 3060", "GeForce-RTX-3060"), (" L40S ", "L40S")],
)
def test_names_are_spelt_as_ray_spells_them(typed: str, known: str) -> None:
    assert known_name(typed) == known


def test_dead_nodes_are_left_out_and_a_label_names_the_kind_of_a100() -> None:
    machines = [
        {
            "Alive": True,
            "Resources": {
                "CPU": 8.0,
                "GPU": 2.0,
                "accelerator_type:A100": 1.0,
                "memory": 4 * 2.0**30,
            },
            "Labels": {"gpu-model": "A100-80G"},
        },
        {"Alive": True, "Resources": {"CPU": 2.0}, "Labels": {}},
        {"Alive": False, "Resources": {"CPU": 64.0}, "Labels": {}},
    ]

    assert nodes_of(machines) == [Node(8, 2, "A100-80G", memory_mib=4096), Node(2)]
