"""By when a mixed fleet can be expected to have done a recording's audio, however it is planned.

Service times are noisy. A relaxation that favours any scheduler: audio comes in pieces of any
length, so nothing is padded; any audio counts, as if what is late elsewhere could always be had
again; and every GPU chooses its batches as well as can be, by dynamic programming over the time
that is left. What the fleet then expects to have done grows with time; the bound is when that
reaches the recording's audio. With many GPUs the sum is close to what is expected, so at the bound
a scheduler without any loss of its own would be done every second time.
"""

from __future__ import annotations

import heapq
import random
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


def fluid_s(audio_s: float, fleet: Fleet, share: float, rng: random.Random) -> float:
    """Makespan under noise where audio comes in pieces of any length and every speed is known.

    No bound, but what a planner of this kind can do at best: a GPU that is free takes a batch that
    fills `share` of the time to the end that all can reach together, as it looks by then.
    """
    free_s = dict.fromkeys(range(len(fleet)), 0.0)  # as expected, of those that work
    ends: list[tuple[float, int]] = []
    now_s = last_s = end_s = 0.0
    left_s = audio_s
    while True:
        if left_s > 0:
            end_s = _common_end_s(left_s, fleet, share, [max(now_s, at) for at in free_s.values()])
        working = {i for _, i in ends}
        for i, gpu in enumerate(fleet):
            batch_s = _batch_s(gpu, share * (end_s - now_s))
            if i not in working and left_s > 0 and batch_s > 0:
                batch_s = min(left_s, batch_s)
                left_s -= batch_s
                took_s = gpu.overhead_s + batch_s / gpu.speed
                free_s[i] = now_s + took_s
                heapq.heappush(ends, (now_s + took_s * rng.lognormvariate(0, NOISE), i))
        if not ends:
            return last_s
        now_s, i = heapq.heappop(ends)
        free_s[i] = last_s = now_s


def _batch_s(gpu: Gpu, time_s: float) -> float:
    """Audio of a batch of this time, at most a full one."""
    return min(gpu.batch_audio_s, max(0.0, time_s - gpu.overhead_s) * gpu.speed)


def _common_end_s(audio_s: float, fleet: Fleet, share: float, free_s: Sequence[float]) -> float:
    """The earliest time by which the GPUs, free from then on, expect to have done the audio."""

    def done_s(end_s: float) -> float:
        total_s = 0.0
        for gpu, at_s in zip(fleet, free_s, strict=True):
            while batch_s := _batch_s(gpu, share * (end_s - at_s)):
                total_s += batch_s
                at_s += gpu.overhead_s + batch_s / gpu.speed
        return total_s

    low_s, high_s = 0.0, max(free_s) + 1.0
    while done_s(high_s) < audio_s:
        high_s *= 2
    for _ in range(30):
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if done_s(middle_s) >= audio_s else (middle_s, high_s)
    return high_s
