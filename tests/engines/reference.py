"""Tells which differences between two readings come from rounding alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deployments.core.types import Audio
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.paraformer.readings import Reading

TIE_LOGIT_GAP = 1e-4  # a smaller gap between two runs is a tie (DESIGN, Results)
TIE_CIF_DISTANCE = 1e-5
PEAK = 1 - 1e-4


def differences(
    engine: Paraformer,
    audios: Sequence[Audio],
    found: Sequence[Reading],
    expected: Sequence[Reading],
) -> tuple[list[int], list[int]]:
    """The segments with an unexpected reading, and those of them that are ties."""
    differ = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
    ties = [i for i in differ if is_tie(engine, audios[i])]
    return [i for i in differ if i not in ties], ties


@torch.inference_mode()
def is_tie(engine: Paraformer, audio: Audio) -> bool:
    """Whether two tokens are nearly equally likely, or a CIF sum is near to firing."""
    encoded = engine.encode(*engine.features([audio]))
    if not encoded.n_tokens.any():
        return False
    best = engine.logits(encoded)[0].topk(2).values
    upsampled = encoded.upsampled[0] * (encoded.n_tokens[0] / encoded.upsampled[0].sum())
    return bool(
        (best[:, 0] - best[:, 1]).min() < TIE_LOGIT_GAP
        or distance_to_firing(encoded.alphas[0], 1.0) < TIE_CIF_DISTANCE
        or distance_to_firing(upsampled, PEAK) < TIE_CIF_DISTANCE
    )


def distance_to_firing(alphas: torch.Tensor, threshold: float) -> float:
    """The smallest distance of the running sum to a multiple of the threshold."""
    sums = alphas.double().cumsum(0) / threshold
    sums = sums[sums > 0.5]
    return float((sums - sums.round()).abs().min()) if len(sums) else 1.0
