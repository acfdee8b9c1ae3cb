"""What each GPU model can do, as data: memory, Tensor Cores, expected speed and price.

`tflops` is the vendor's dense fp16 Tensor Core figure *with fp32 accumulation*, because that is
what torch runs. A GeForce card does it at half its advertised rate. For a card without Tensor Cores
`tflops` is its fp32 figure.

`speed` follows from `tflops`. Paraformer-large costs 6.8 GFLOP for a second of audio (counted with
torch's FlopCounter at true geometry), and an engine reaches a quarter of the peak at best. These
speeds order the pools before the first result. They are not promises.

`memory_mib` is what NVML reports with ECC on. On most cards that is less than the data sheet's GB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

GFLOP_PER_AUDIO_S = 6.8
ACHIEVABLE = 0.25
# Audio seconds per second in fp32. Measured at true geometry: 9 to 10 on a core of a 2020s server.
CPU_SPEED_PER_THREAD = 9.0


@dataclass(frozen=True, slots=True)
class Price:
    """Price on demand of one GPU and its share of a Linux machine. Prices change: check yours."""

    usd_per_h: float
    source: str  # provider, instance, region, year
    is_believed: bool = True  # False: read in a published copy of the provider's price list


@dataclass(frozen=True, slots=True)
class Profile:
    """One GPU model."""

    memory_mib: int
    tensor_cores: bool
    tflops: float
    source: str = ""  # of `tflops`
    price: Price | None = None  # None: no cloud is known to rent it by the hour

    @property
    def speed(self) -> float:
        """Expected audio seconds per second of the whole card, on full batches."""
        return self.tflops * 1000 / GFLOP_PER_AUDIO_S * ACHIEVABLE


_AWS = "AWS {}, us-east-1, 2026"
_GA102 = "NVIDIA GA102 white paper, FP16 Tensor with FP32 accumulate"
_ADA = "NVIDIA Ada white paper, FP16 Tensor with FP32 accumulate"

# A key is Ray's accelerator type (ray.util.accelerators), or NVML's name without "NVIDIA" where Ray
# has no type. `profile` finds a card by either name in any spelling.
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
    # An A100 of unknown memory is taken for the small one. `profile` looks at the memory if known.
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
# For a card that is not known at all. fp32 and small batches run anywhere.
UNKNOWN = Profile(8_192, False, 5.0, "a cautious guess")

# Least TFLOPS of a card that is not in the table, by compute capability: those of the slowest card
# with Tensor Cores of that generation. 7.5 is missing, because it has cards without Tensor Cores.
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
# These words in a name say that its chip or power limit differs from the plain model's. The card
# has at least two thirds of the plain model's memory (RTX 3060 Ti, 4090 Laptop) and speed.
VARIANT = 2 / 3
VARIANTS = {"ti", "super", "laptop", "mobile", "max", "d"}
OF_NO_MEANING = {"nvidia", "tesla", "geforce", "graphics", "gpu", "quadro"}


def profile(
    name: str,
    *,
    memory_mib: int | None = None,
    compute_capability: tuple[int, int] | None = None,
) -> Profile:
    """The profile of a GPU by the name that Ray or NVML gives it; cautious for unknown names.

    `memory_mib`, as NVML reports it, replaces the memory in the table.
    """
    found = PROFILES.get(name) or _by_name(name, memory_mib)
    if found is None:
        found = _by_generation(name, compute_capability)
    return found if memory_mib is None else replace(found, memory_mib=memory_mib)


def known_card(name: str) -> Profile | None:
    """The profile of a card by any spelling of its name; None if it is not in the table."""
    return PROFILES.get(name) or _by_name(name, None)


def words(name: str) -> list[str]:
    """The words of a card's name in lower case, without words such as "NVIDIA" and "GeForce".

    "Tesla V100-SXM2-16GB" gives v100, sxm2, 16gb. "GeForce-RTX-4090-D", which is Ray's spelling,
    gives the same words as "NVIDIA GeForce RTX 4090 D".
    """
    return [w for w in re.split(r"[^a-z0-9]+", name.lower()) if w and w not in OF_NO_MEANING]


def _by_name(name: str, memory_mib: int | None) -> Profile | None:
    """The longest entry of the table whose words are all in the name; None if there is none."""
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
    """The plain model, with less memory and speed if the rest of the name says it is a variant."""
    if not rest & VARIANTS:
        return plain
    return replace(
        plain,
        memory_mib=int(plain.memory_mib * VARIANT),
        tflops=plain.tflops * VARIANT,
        price=None,
    )


def _by_generation(name: str, compute_capability: tuple[int, int] | None) -> Profile:
    """The profile of a card that is not in the table, from its compute capability."""
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


# An hour of a card that no cloud rents: its power, and its purchase spread over a few years.
UNPRICED_GPU_USD = 0.5
CPU_USD = 0.045  # an hour of a core of AWS's c7i


def replica_price(accelerator_type: str | None, *, num_gpus: float, num_cpus: float) -> float:
    """US dollars per hour for a replica's share of a card, or for its cores if it has no GPU."""
    if num_gpus > 0:
        price = profile(accelerator_type or "").price
        return num_gpus * (price.usd_per_h if price else UNPRICED_GPU_USD)
    return num_cpus * CPU_USD
