"""A lower bound on the makespan of a recording on a mixed fleet, for any scheduler.

Service times are noisy, so the bound is about expectations. It relaxes the problem in favour of
every scheduler:

- audio comes in pieces of any length, so there is no padding;
- all audio that is done counts, as if audio that is late on one GPU could always be redone;
- every GPU chooses its batches in the best way, found by dynamic programming over the time left.

The audio that the fleet expects to have done then grows with time. The bound is the time at which
it reaches the recording's audio. With many GPUs the sum is close to its expectation. A scheduler
without any loss of its own would then finish by the bound every second time.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.dispatch.fleets import NOISE, PRIOR_ERROR, Fleet, Gpu

STEPS = 240  # points in time
CHOICES = 60  # lengths of a batch that are tried
DRAWS = 60  # quantiles of the noise

Curve = NDArray[np.float64]
FACTORS: Curve = np.exp(
    NOISE * np.array([NormalDist().inv_cdf((i + 0.5) / DRAWS) for i in range(DRAWS)])
)


def bound_known_s(audio_s: float, fleet: Fleet, longest_s: float) -> float:
    """The bound where every GPU's speed is known. `longest_s`: a time that is surely enough."""
    times_s = np.linspace(0, longest_s, STEPS + 1)
    expected = sum(n * _known(gpu, times_s) for gpu, n in Counter(fleet).items())
    return float(np.interp(audio_s, expected, times_s))


def bound_unknown_s(audio_s: float, types: Fleet, longest_s: float) -> float:
    """The bound where speeds are learned.

    A GPU's speed and overhead are 30 % off its type's figures, and known after its first batch.
    `longest_s`: a time that is surely enough.
    """
    times_s = np.linspace(0, longest_s, STEPS + 1)
    expected = sum(n * _unknown(gpu, times_s) for gpu, n in Counter(types).items())
    return float(np.interp(audio_s, expected, times_s))


def _known(gpu: Gpu, times_s: Curve) -> Curve:
    """The most audio that the GPU can expect to have done by each of these times."""
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
    """The same for a GPU of this type whose own speed is still unknown."""
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
    """The audio expected by `time_s` where a batch of `audio_s` comes first: the mean over `gpus`.

    `audio_s` and the result are (n_choices,). `later` holds for each GPU the curve of audio that it
    expects to do in the time left after the batch.
    """
    total = np.zeros_like(audio_s)
    for gpu, (times_s, done) in zip(gpus, later, strict=True):
        took_s = (gpu.overhead_s + audio_s / gpu.speed)[:, None] * FACTORS
        left_s = np.maximum(time_s - took_s, 0.0)
        ours = np.where(took_s <= time_s, audio_s[:, None] + np.interp(left_s, times_s, done), 0.0)
        total += ours.mean(axis=1)
    return total / len(gpus)


def fluid_s(audio_s: float, fleet: Fleet, share: float, rng: random.Random) -> float:
    """The makespan of one simple planner under noise, with known speeds and pieces of any length.

    This is no bound, but it shows how well such a planner can do. Whenever a GPU is free, the
    planner computes when all GPUs can be done together. The GPU takes a batch that fills `share` of
    the time until then.
    """
    free_s = dict.fromkeys(range(len(fleet)), 0.0)  # of busy GPUs: when they should be free
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
    """The audio of a batch that takes this time; at most a full batch."""
    return min(gpu.batch_audio_s, max(0.0, time_s - gpu.overhead_s) * gpu.speed)


def _common_end_s(audio_s: float, fleet: Fleet, share: float, free_s: Sequence[float]) -> float:
    """The earliest time by which the GPUs expect to have done the audio.

    `free_s` holds for each GPU the time from which it is free.
    """

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
