"""By when a mixed fleet can have done a recording's audio at all, where service times are noisy.

A relaxation that favours any scheduler: audio comes in pieces of any length, so nothing is padded;
any audio counts, as if what is late elsewhere could always be had again; and every GPU chooses its
batches as well as can be, by dynamic programming over the time that is left. What the fleet then
expects to have done grows with time; the bound is when that reaches the recording's audio. With
many GPUs the sum is close to what is expected, so at the bound a scheduler without any loss of its
own would be done every second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.dispatch_fleets import NOISE, PRIOR_ERROR, Fleet, Gpu

STEPS = 240  # of time
CHOICES = 60  # of a batch's length
DRAWS = 60  # of the noise: quantiles

Curve = NDArray[np.float64]
FACTORS: Curve = np.exp(
    NOISE * np.array([NormalDist().inv_cdf((i + 0.5) / DRAWS) for i in range(DRAWS)])
)


def bound_known_s(audio_s: float, fleet: Fleet, longest_s: float) -> float:
    """Where every GPU's speed is known. `longest_s`: a time that is enough."""
    times_s = np.linspace(0, longest_s, STEPS + 1)
    expected = sum(n * _known(gpu, times_s) for gpu, n in Counter(fleet).items())
    return float(np.interp(audio_s, expected, times_s))


def bound_unknown_s(audio_s: float, types: Fleet, longest_s: float) -> float:
    """Where a GPU's speed and overhead are 30 % off its type's, and known after its first batch."""
    times_s = np.linspace(0, longest_s, STEPS + 1)
    expected = sum(n * _unknown(gpu, times_s) for gpu, n in Counter(types).items())
    return float(np.interp(audio_s, expected, times_s))


def _known(gpu: Gpu, times_s: Curve) -> Curve:
    """The most audio that the GPU can expect to have done in each of these times."""
    done = np.zeros_like(times_s)
    for i, time_s in enumerate(times_s):
        longest_s = min(time_s, gpu.overhead_s + gpu.batch_audio_s / gpu.speed)
        if longest_s > gpu.overhead_s:
            work_s = (longest_s - gpu.overhead_s) * np.arange(1, CHOICES + 1) / CHOICES
            before = (times_s[:i], done[:i])
            best = _expected([gpu], [before], work_s * gpu.speed, time_s).max()
            done[i] = max(done[i - 1], best)
    return done


def _unknown(gpu: Gpu, times_s: Curve) -> Curve:
    """The same of a GPU of this type before its first batch."""
    errors = (1 - PRIOR_ERROR, 1 + PRIOR_ERROR)
    found = [
        Gpu(gpu.kind, gpu.speed * a, gpu.overhead_s * b, gpu.batch_audio_s)
        for a in errors
        for b in errors
    ]
    later = [(times_s, _known(one, times_s)) for one in found]
    done = np.zeros_like(times_s)
    for i, time_s in enumerate(times_s):
        fastest = (time_s - errors[0] * gpu.overhead_s) * errors[1] * gpu.speed
        most_s = min(gpu.batch_audio_s, fastest)
        if most_s > 0:
            audio_s = most_s * np.arange(1, CHOICES + 1) / CHOICES
            done[i] = max(done[i - 1], _expected(found, later, audio_s, time_s).max())
    return done


def _expected(
    gpus: Sequence[Gpu], later: Sequence[tuple[Curve, Curve]], audio_s: Curve, time_s: float
) -> Curve:
    """Audio done within the time where a batch of so much comes first, on any one of these.

    `audio_s` is (n_choices,), as is the result; `later` are the curves for what time is left.
    """
    total = np.zeros_like(audio_s)
    for gpu, (times_s, done) in zip(gpus, later, strict=True):
        took_s = (gpu.overhead_s + audio_s / gpu.speed)[:, None] * FACTORS
        left_s = np.maximum(time_s - took_s, 0.0)
        ours = np.where(took_s <= time_s, audio_s[:, None] + np.interp(left_s, times_s, done), 0.0)
        total += ours.mean(axis=1)
    return total / len(gpus)
