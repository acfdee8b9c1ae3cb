"""Which profile a card gets, by any of its names or by its compute capability."""

from __future__ import annotations

import pytest

from cluster.profiles import PROFILES, UNKNOWN, profile

NAMED = [  # (name that NVML or Ray gives, key of the table)
    ("Tesla T4", "T4"),
    ("NVIDIA T4", "T4"),
    ("Tesla V100-SXM2-16GB", "V100"),
    ("NVIDIA A10", "A10"),
    ("NVIDIA A10G", "A10G"),
    ("NVIDIA L4", "L4"),
    ("NVIDIA L40S", "L40S"),
    ("NVIDIA A100-SXM4-40GB", "A100-40G"),
    ("NVIDIA A100-SXM4-80GB", "A100-80G"),
    ("NVIDIA H100 80GB HBM3", "H100"),
    ("NVIDIA H100 PCIe", "H100-PCIe"),
    ("NVIDIA A100-PCIE-40GB", "A100-40G"),
    ("NVIDIA H200", "H200"),
    ("NVIDIA B200", "B200"),
    ("NVIDIA GeForce RTX 3060", "GeForce RTX 3060"),
    ("GeForce-RTX-3090", "GeForce RTX 3090"),  # Ray's spelling
    ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
    ("GeForce-RTX-4090-D", "GeForce RTX 4090 D"),
    ("NVIDIA GeForce GTX 1660", "GeForce GTX 1660"),
]


@pytest.mark.parametrize(("name", "key"), NAMED)
def test_a_card_is_found_by_each_of_its_names(name: str, key: str) -> None:
    assert profile(name) == PROFILES[key]


def test_the_measured_memory_tells_the_two_a100_apart() -> None:
    small = profile("A100", memory_mib=40_536)
    large = profile("A100", memory_mib=81_920)

    assert (small.memory_mib, large.memory_mib) == (40_536, 81_920)
    assert small.tflops == large.tflops


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("NVIDIA GeForce GTX 1660 Ti", "GeForce GTX 1660"),
        ("NVIDIA GeForce GTX 1660 SUPER", "GeForce GTX 1660"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "GeForce RTX 3060"),
        ("NVIDIA GeForce RTX 3060 Ti", "GeForce RTX 3060"),
    ],
)
def test_a_variant_has_less_memory_and_speed_than_the_plain_model(name: str, plain: str) -> None:
    variant = profile(name)

    assert variant.tensor_cores == PROFILES[plain].tensor_cores
    assert variant.memory_mib < PROFILES[plain].memory_mib
    assert variant.speed < PROFILES[plain].speed


@pytest.mark.parametrize(
    ("name", "capability", "tensor_cores"),
    [
        ("NVIDIA T1000", (7, 5), False),
        ("NVIDIA GeForce MX450", (7, 5), False),
        ("Quadro RTX 4000", (7, 5), True),
        ("NVIDIA RTX A2000", (8, 6), True),
        ("NVIDIA GeForce RTX 5070", (12, 0), True),
        ("NVIDIA Thor", (11, 0), True),
        ("NVIDIA of 2030", (14, 0), True),
        ("Tesla K80", (3, 7), False),
        ("Tesla M60", (5, 2), False),
    ],
)
def test_a_card_that_is_not_in_the_table_is_judged_by_its_generation(
    name: str, capability: tuple[int, int], tensor_cores: bool
) -> None:
    found = profile(name, compute_capability=capability)

    assert found.tensor_cores is tensor_cores
    assert found.speed > 0


def test_a_name_that_only_begins_like_a_model_is_not_that_model() -> None:
    assert profile("NVIDIA A1000") == UNKNOWN
    assert profile("NVIDIA L40") == UNKNOWN
    assert profile("unknown GPU") == UNKNOWN


def test_the_measured_memory_replaces_that_of_the_table() -> None:
    assert profile("Tesla T4", memory_mib=14_000).memory_mib == 14_000
    assert profile("something", memory_mib=4_000).memory_mib == 4_000


def test_every_profile_and_every_price_has_a_source() -> None:
    assert [name for name, p in PROFILES.items() if not p.source] == []
    assert [name for name, p in PROFILES.items() if p.price and not p.price.source] == []
    assert [name for name, p in PROFILES.items() if p.price and p.price.usd_per_h <= 0] == []
