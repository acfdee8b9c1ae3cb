"""What a GPU model can do, as data: memory, Tensor Cores, speed to expect, price.

`tflops` is the vendor's dense fp16 Tensor Core figure *with fp32 accumulation*, which is what torch
runs (a GeForce card does it at half its advertised rate), or fp32 where there are no Tensor Cores.
`speed` is derived from it: Paraformer-large costs 6.8 GFLOP an audio second (counted with torch's
FlopCounter at true geometry) and an engine reaches a quarter of the peak at best. These are priors
that order the pools before the first result, not promises.

`memory_mib` is what NVML reports with ECC on, less than the data sheet's GB on most cards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

GFLOP_PER_AUDIO_S = 6.8
ACHIEVABLE = 0.25
CPU_SPEED_PER_THREAD = 9.0  # fp32, one core of a 2020s server: 9 to 10 measured at true geometry


@dataclass(frozen=True, slots=True)
class Price:
    """On demand, Linux, for one GPU with its share of the machine. Prices move: check yours."""

    usd_per_h: float
    source: str  # provider, instance, region; as of
    is_believed: bool = True  # False: read in a published copy of the provider's list


@dataclass(frozen=True, slots=True)
class Profile:
    """One GPU model."""

    memory_mib: int
    tensor_cores: bool
    tflops: float
    source: str = ""  # of tflops
    price: Price | None = None  # None: no cloud that we know of rents it by the hour

    @property
    def speed(self) -> float:
        """Audio seconds a second and whole card, on full batches; a prior."""
        return self.tflops * 1000 / GFLOP_PER_AUDIO_S * ACHIEVABLE


_AWS = "AWS {}, us-east-1, 2026"
_GA102 = "NVIDIA GA102 white paper, FP16 Tensor with FP32 accumulate"
_ADA = "NVIDIA Ada white paper, FP16 Tensor with FP32 accumulate"

# Keys are Ray's accelerator types where it has one (ray.util.accelerators), else the name of
# NVML without "NVIDIA"; `profile` finds both in any spelling.
PROFILES = {
    "P100": Profile(16_280, False, 9.3, "P100 data sheet, PCIe, fp32"),
    "P4": Profile(7_611, False, 5.5, "P4 data sheet, fp32"),
    "V100": Profile(
        16_384, True, 125.0, "V100 data sheet, SXM2", Price(3.06, _AWS.format("p3.2xlarge"))
    ),
    "T4": Profile(15_360, True, 65.0, "T4 data sheet", Price(0.526, _AWS.format("g4dn.xlarge"))),
    "A10": Profile(23_028, True, 125.0, "A10 data sheet", Price(0.75, "Lambda gpu_1x_a10, 2025")),
    "A10G": Profile(
        23_028,
        True,
        70.0,
        "A10G data sheet (AWS G5)",
        Price(1.006, _AWS.format("g5.xlarge"), is_believed=False),
    ),
    "L4": Profile(23_034, True, 121.0, "L4 data sheet", Price(0.8048, _AWS.format("g6.xlarge"))),
    "L40S": Profile(
        46_068, True, 362.0, "L40S data sheet", Price(1.861, _AWS.format("g6e.xlarge"))
    ),
    # An A100 of unknown size is taken as the small one; `profile` looks at the memory if it may.
    "A100": Profile(
        40_960,
        True,
        312.0,
        "A100 data sheet",
        Price(2.745, _AWS.format("p4d.24xlarge / 8"), is_believed=False),
    ),
    "A100-40G": Profile(
        40_960,
        True,
        312.0,
        "A100 data sheet",
        Price(2.745, _AWS.format("p4d.24xlarge / 8"), is_believed=False),
    ),
    "A100-80G": Profile(
        81_920, True, 312.0, "A100 data sheet", Price(3.43, _AWS.format("p4de.24xlarge / 8"))
    ),
    "H100": Profile(
        81_559,
        True,
        989.0,
        "H100 data sheet, SXM5",
        Price(6.88, _AWS.format("p5.4xlarge"), is_believed=False),
    ),
    "H100-PCIe": Profile(81_559, True, 756.0, "H100 data sheet, PCIe"),
    "H20": Profile(97_871, True, 148.0, "H20 data sheet"),
    "H200": Profile(
        143_771,
        True,
        989.0,
        "H200 data sheet, SXM5",
        Price(7.912, _AWS.format("p5en.48xlarge / 8"), is_believed=False),
    ),
    "B200": Profile(
        183_359,
        True,
        2250.0,
        "HGX B200 data sheet",
        Price(14.242, _AWS.format("p6-b200.48xlarge / 8"), is_believed=False),
    ),
    # Compute capability 7.5 like the T4, but without its Tensor Cores.
    "GeForce GTX 1650": Profile(4_096, False, 3.0, "NVIDIA, GTX 1650, fp32"),
    "GeForce GTX 1660": Profile(6_144, False, 5.0, "NVIDIA, GTX 1660, fp32"),
    "GeForce RTX 3060": Profile(12_288, True, 25.5, "half of NVIDIA's FP16-accumulate figure"),
    "GeForce RTX 3090": Profile(
        24_576, True, 71.0, _GA102, Price(0.34, "RunPod community, 2024", is_believed=False)
    ),
    "GeForce RTX 4090": Profile(
        24_564, True, 165.2, _ADA, Price(0.74, "RunPod secure, 2024", is_believed=False)
    ),
    "GeForce RTX 4090 D": Profile(24_564, True, 147.1, "cores x clock of the 4090's " + _ADA),
}
UNKNOWN = Profile(8_192, False, 5.0, "a cautious guess")  # fp32 and small batches are safe

# What a card that is not in the table does at the least, by compute capability: the slowest card
# of the generation that has Tensor Cores. 7.5 is not here: it also names cards without them.
SLOWEST = {
    (7, 0): 100.0,  # V100S, Titan V
    (8, 0): 165.0,  # A30
    (8, 6): 18.0,  # RTX 3050, A2
    (8, 9): 30.0,  # RTX 4050
    (9, 0): 148.0,  # H20
    (10, 0): 1000.0,  # one die of a B200
    (12, 0): 40.0,  # RTX 5050
}
TURING = (7, 5)
SLOWEST_RTX_20 = 26.0  # RTX 2060, FP32 accumulate
# Suffixes that name another chip or power limit than the plain model: the same generation and
# kind, two thirds of the memory at the least (RTX 3060 Ti, 4090 Laptop) and of the speed.
VARIANT = 2 / 3
VARIANTS = {"ti", "super", "laptop", "mobile", "max", "d"}
OF_NO_MEANING = {"nvidia", "tesla", "geforce", "graphics", "gpu", "quadro"}


def profile(
    name: str,
    *,
    memory_mib: int | None = None,
    compute_capability: tuple[int, int] | None = None,
) -> Profile:
    """The profile of a GPU by Ray's or NVML's name, a cautious one where it is not known.

    What was measured (`memory_mib`, as NVML has it) goes before what the table says.
    """
    found = PROFILES.get(name) or _by_name(name, memory_mib)
    if found is None:
        found = _by_generation(name, compute_capability)
    return found if memory_mib is None else replace(found, memory_mib=memory_mib)


def known_card(name: str) -> Profile | None:
    """The profile of a card by any spelling of its name; None where the table does not have it."""
    return PROFILES.get(name) or _by_name(name, None)


def words(name: str) -> list[str]:
    """A name's words, in lower case, without the vendor: "Tesla V100-SXM2-16GB" -> v100 sxm2 16gb.

    "GeForce-RTX-4090-D" is Ray's spelling of "NVIDIA GeForce RTX 4090 D".
    """
    return [w for w in re.split(r"[^a-z0-9]+", name.lower()) if w and w not in OF_NO_MEANING]


def _by_name(name: str, memory_mib: int | None) -> Profile | None:
    """The table's entry with most words in common; None unless all of the entry's are there."""
    given = words(name)
    size_gb = next((w.removesuffix("gb") for w in given if re.fullmatch(r"\d+gb", w)), None)
    sized = [*given, f"{size_gb}g"] if size_gb else given
    if memory_mib is not None:
        sized = [*sized, f"{round(memory_mib / 1024)}g"]
    fitting = [key for key in PROFILES if set(words(key)) <= set(sized)]
    if not fitting:
        return None
    key = max(fitting, key=lambda key: len(words(key)))
    return _variant(PROFILES[key], set(given) - set(words(key)))


def _variant(plain: Profile, rest: set[str]) -> Profile:
    """The plain model, cut down where the rest of the name says that it is another one."""
    if not rest & VARIANTS:
        return plain
    return replace(
        plain,
        memory_mib=int(plain.memory_mib * VARIANT),
        tflops=plain.tflops * VARIANT,
        price=None,
    )


def _by_generation(name: str, compute_capability: tuple[int, int] | None) -> Profile:
    """A card that no name in the table fits."""
    if compute_capability is None:
        return UNKNOWN
    if compute_capability == TURING:
        is_rtx = "rtx" in words(name)
        return Profile(8_192, is_rtx, SLOWEST_RTX_20 if is_rtx else UNKNOWN.tflops, "Turing")
    known = [generation for generation in SLOWEST if generation <= compute_capability]
    if not known:
        return UNKNOWN
    same = [g for g in known if g[0] == compute_capability[0]] or known
    tflops = min(SLOWEST[g] for g in same)
    return Profile(8_192, True, tflops, "the slowest card of its generation")
