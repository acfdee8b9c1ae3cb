"""What a GPU model can do, as data: memory, Tensor Cores, speed to expect, until it is measured.

`tflops` is the vendor's dense fp16 Tensor Core figure, or fp32 where there are none (data sheets);
`speed` is derived from it: Paraformer-large costs 6.8 GFLOP an audio second (counted with torch's
FlopCounter at true geometry) and an engine reaches a quarter of the peak at best. These are priors
that order the pools before the first result, not promises.
"""

from __future__ import annotations

from dataclasses import dataclass

GFLOP_PER_AUDIO_S = 6.8
ACHIEVABLE = 0.25
CPU_SPEED_PER_THREAD = 9.0  # fp32, one core of a 2020s server: 9 to 10 measured at true geometry


@dataclass(frozen=True, slots=True)
class Profile:
    """One GPU model."""

    memory_mib: int
    tensor_cores: bool
    tflops: float

    @property
    def speed(self) -> float:
        """Audio seconds a second and whole card, on full batches; a prior."""
        return self.tflops * 1000 / GFLOP_PER_AUDIO_S * ACHIEVABLE


# Keys are Ray's accelerator types (ray.util.accelerators), or NVML's name without "NVIDIA".
PROFILES = {
    "P100": Profile(16_384, False, 9.3),
    "P4": Profile(8_192, False, 5.5),
    "V100": Profile(16_384, True, 125.0),
    "T4": Profile(16_384, True, 65.0),
    "A10": Profile(24_576, True, 125.0),
    "A10G": Profile(24_576, True, 70.0),
    "L4": Profile(24_576, True, 121.0),
    "L40S": Profile(49_152, True, 362.0),
    "A100": Profile(40_960, True, 312.0),
    "A100-40G": Profile(40_960, True, 312.0),
    "A100-80G": Profile(81_920, True, 312.0),
    "H100": Profile(81_920, True, 989.0),
    "H20": Profile(98_304, True, 148.0),
    "H200": Profile(144_384, True, 989.0),
    "B200": Profile(184_320, True, 2250.0),
    # Compute capability 7.5 like the T4, but without its Tensor Cores.
    "GeForce GTX 1650": Profile(4_096, False, 3.0),
    "GeForce GTX 1660": Profile(6_144, False, 5.0),
    "GeForce RTX 3060": Profile(12_288, True, 51.0),
    "GeForce RTX 3090": Profile(24_576, True, 142.0),
    "GeForce RTX 4090": Profile(24_576, True, 330.0),
    "GeForce RTX 4090 D": Profile(24_576, True, 293.0),
}
UNKNOWN = Profile(8_192, False, 5.0)  # a card not in the table: fp32 and small batches are safe


def profile(accelerator_type: str) -> Profile:
    """The profile of a GPU model, a cautious one where it is not known."""
    return PROFILES.get(accelerator_type, UNKNOWN)
