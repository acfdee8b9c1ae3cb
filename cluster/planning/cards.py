"""How one card is shared between ASR replicas, the VAD and the punctuation. Pure.

Ray may put the VAD and the punctuation on any card, in any order. So every card keeps room for
them: replicas x fraction + the room for both is at most 1, whichever starts first. A fraction of a
card stands for memory, and the engine limits torch's allocator to it. The driver shares computing
time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from cluster.profiles import UNKNOWN, Profile, profile

CONTEXT_MIB = 600  # a CUDA context and its libraries, in each process
WEIGHTS_MIB = {"fp32": 990, "fp16": 500, "bf16": 500}  # SeACo Paraformer-large
# Activations. fp32: twice the peak measured on a CPU. Others: half of that. Not measured on GPUs.
MIB_PER_PADDED_S = {"fp32": 2.0, "fp16": 1.0, "bf16": 1.0}
# A stage holds a context, its weights in fp32, and one VAD step or 16 documents. A VAD step has
# 24,000 frames. It needs most memory when the spectrum is squared. Then it holds each frame twice
# (400 x 4 B each), padded (512 x 4 B), and as 257 complex numbers of 8 B with their squares. These
# tensors take 218 MiB, counted in a test. cuFFT's workspace is another 47 MiB, as much as it
# writes. The allocator's blocks get 30 % more, which is a guess.
VAD_STEP_MIB = 218 + 47 + 80
VAD_MIB = CONTEXT_MIB + 2 + VAD_STEP_MIB
PUNCTUATION_MIB = CONTEXT_MIB + 1100 + 200  # for ct-punc; the smaller ct-punc-zh fits as well

USABLE = 0.95  # share of NVML's memory that is left by the driver and a desktop's windows
SMALLEST_CARD_MIB = 7_500  # cards sold as 8 GB report 7,611 and more; smaller cards need fp16
SHORTEST_BATCH_S = 60.0  # two of the VAD's longest segments; a replica needs room for them
LONGEST_BATCH_S = 1200.0  # a longer batch is no faster per second of audio, and answers later
LONGEST_BATCH_TAKES_S = 2.0  # limits the batches of slow cards
FP32_OF_TENSOR_SPEED = 1 / 8  # T4 8.1 of 65, A100 19.5 of 312, H100 67 of 989; TF32 is off

# (least speed of the card in audio s/s, replicas, reason). The last line that applies counts.
REPLICAS_PER_CARD = (
    (0.0, 2, "one computes while the other reads its batch and spells its text"),
    (20_000.0, 4, "one process is not expected to feed more than 10,000 audio s/s; not measured"),
)


@dataclass(frozen=True, slots=True)
class Share:
    """How each card of one type is shared."""

    n_replicas: int
    fraction: float  # of a card, per replica
    batch_audio_s: float  # cap on a batch's padded audio
    speed: float  # expected audio seconds per second of one replica
    reasons: dict[str, str]  # field of Pool -> why it has its value


@dataclass(frozen=True, slots=True)
class Reserve:
    """The fraction of any card that each replica of a stage needs. 0: the stage runs on CPUs."""

    vad: float = 0.0
    punctuation: float = 0.0
    n_vad: int = 1
    n_punctuation: int = 1

    @property
    def total(self) -> float:
        return self.vad * self.n_vad + self.punctuation * self.n_punctuation


def card_profile(name: str) -> Profile:
    """The profile of a card by Ray's name for it. Cautious for MIG slices and unknown cards."""
    slice_gb = re.search(r"MIG.*?(\d+)gb", name, re.IGNORECASE)
    if slice_gb:
        return replace(UNKNOWN, memory_mib=int(slice_gb[1]) * 1024)
    return profile(name)


def card_speed(card: Profile, dtype: str) -> float:
    """Expected audio seconds per second of a whole card, on full batches."""
    slow = dtype == "fp32" and card.tensor_cores
    return card.speed * (FP32_OF_TENSOR_SPEED if slow else 1.0)


def usable_mib(card: Profile) -> float:
    """The part of a card's memory that can be used, MiB."""
    return card.memory_mib * USABLE


def refusal(name: str, dtype: str) -> str | None:
    """Why a card cannot serve in an application of this dtype; None if it can."""
    card = card_profile(name)
    if dtype not in WEIGHTS_MIB:
        return f"no engine runs {dtype} on a GPU"
    half = dtype != "fp32" and card.tensor_cores
    if card.memory_mib < SMALLEST_CARD_MIB and not half:
        return f"{card.memory_mib} MiB: a card under 8 GB serves only in fp16, on Tensor Cores"
    if dtype != "fp32" and not half:
        return f"not known to have Tensor Cores: {dtype} would be slower than fp32 there"
    if isinstance(share_card(name, dtype), str):
        return f"{card.memory_mib} MiB do not hold one {dtype} replica"
    return None


def reserve_for(smallest_mib: float, wanted: Reserve) -> Reserve:
    """The fractions of the smallest card that the stages need, if they are wanted on a GPU."""
    return replace(
        wanted,
        vad=_up(VAD_MIB / smallest_mib) if wanted.vad else 0.0,
        punctuation=_up(PUNCTUATION_MIB / smallest_mib) if wanted.punctuation else 0.0,
    )


def share_card(
    name: str, dtype: str, reserve: Reserve | None = None, *, batch_takes_s: float | None = None
) -> Share | str:
    """How a card of this type is shared, or why no replica fits beside the reserve.

    `batch_takes_s` is how long a full batch may take. Its default is LONGEST_BATCH_TAKES_S.
    """
    card, reserve = card_profile(name), reserve or Reserve()
    speed = card_speed(card, dtype)
    wanted, why = [(n, why) for least, n, why in REPLICAS_PER_CARD if speed >= least][-1]
    for n_replicas in range(wanted, 0, -1):
        fraction = _down((1.0 - reserve.total) / n_replicas)
        fits_s = padded_s_that_fit(usable_mib(card) * fraction, dtype)
        if fits_s >= SHORTEST_BATCH_S:
            break
    else:
        return (
            f"{card.memory_mib} MiB x {1 - reserve.total:.2f} do not hold context {CONTEXT_MIB}, "
            f"weights {WEIGHTS_MIB[dtype]} and {SHORTEST_BATCH_S:g} s of audio"
        )
    if n_replicas < wanted:
        why = f"memory holds {n_replicas}; {wanted} would keep it busier"
    takes_s = LONGEST_BATCH_TAKES_S if batch_takes_s is None else batch_takes_s
    replica_speed = speed / n_replicas
    bounds = {
        f"{usable_mib(card):.0f} usable MiB x {fraction:g} - context {CONTEXT_MIB} - weights "
        f"{WEIGHTS_MIB[dtype]}, at {MIB_PER_PADDED_S[dtype]:g} MiB a padded second": fits_s,
        f"a longer batch would only answer later; {fits_s:.0f} s would fit": LONGEST_BATCH_S,
        f"a batch takes at most {takes_s:g} s; {fits_s:.0f} s would fit": max(
            SHORTEST_BATCH_S, takes_s * replica_speed
        ),
    }
    bound = min(bounds, key=lambda reason: bounds[reason])
    room = f" beside {reserve.total:.2f} for VAD and punctuation" if reserve.total else ""
    return Share(
        n_replicas=n_replicas,
        fraction=fraction,
        batch_audio_s=float(math.floor(bounds[bound])),
        speed=round(replica_speed, 1),
        reasons={
            "num_gpus": f"{n_replicas} replicas a card{room}: {why}",
            "batch_audio_s": bound,
            "speed": f"prior: {speed:.0f} audio s/s for a card in {dtype}, shared by {n_replicas}; "
            "learned from results later",
        },
    )


def padded_s_that_fit(share_mib: float, dtype: str) -> float:
    """Padded audio seconds that fit beside context and weights; negative if these do not fit."""
    return (share_mib - CONTEXT_MIB - WEIGHTS_MIB[dtype]) / MIB_PER_PADDED_S[dtype]


def _up(fraction: float) -> float:
    """The fraction rounded up to a hundredth, so that it is never less than needed."""
    return math.ceil(fraction * 100 - 1e-9) / 100


def _down(fraction: float) -> float:
    return math.floor(fraction * 100 + 1e-9) / 100
