"""What FunASR's own `AutoModel` says, the yardstick of the engines."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deployments.core.types import Audio
from deployments.engines.paraformer import Paraformer
from deployments.engines.readings import Reading

TIE_LOGIT_GAP = 1e-4  # DESIGN 4: below this a difference between two runs is a tie
TIE_CIF_DISTANCE = 1e-5
PEAK = 1 - 1e-4


class Reference:
    """An `AutoModel` that is fed one item at a time."""

    def __init__(self, model_dir: Path, **options: Any) -> None:
        with quiet():
            from funasr import AutoModel

            self._model = AutoModel(
                model=str(model_dir),
                device="cpu",
                ncpu=1,
                disable_update=True,
                disable_pbar=True,
                log_level="ERROR",
                **options,
            )

    def generate(self, item: Audio | str, **options: Any) -> dict[str, Any]:
        """FunASR's result for one item; empty where it gives none."""
        data = item if isinstance(item, str) else item.astype(np.float32) / 32768
        with quiet():
            results = self._model.generate(input=[data], **options)
        return results[0] if results and results[0] else {}

    def read(self, audio: Audio, **options: Any) -> Reading:
        """Words and times of one segment."""
        result = self.generate(audio, **options)
        times = tuple((start, end) for start, end in result.get("timestamp", ()))
        return Reading(tuple(result.get("text", "").split()), times)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """FunASR prints and warns; neither is ours to repair."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def differences(
    engine: Paraformer,
    audios: Sequence[Audio],
    found: Sequence[Reading],
    expected: Sequence[Reading],
) -> tuple[list[int], list[int]]:
    """The segments that are read otherwise than expected, and those of them that are ties."""
    differ = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
    ties = [i for i in differ if is_tie(engine, audios[i])]
    return [i for i in differ if i not in ties], ties


@torch.inference_mode()
def is_tie(engine: Paraformer, audio: Audio) -> bool:
    """Whether two tokens are nearly equal, or a CIF sum stands next to where it fires."""
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
