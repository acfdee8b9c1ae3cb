"""How fast each replica is, learned from the times that its chunks took.

A chunk with x ms of padded audio takes overhead + slope * x. One factor instead of these two would
mislead, because a factor learned on long chunks is wrong for short ones. Both are fitted by least
squares and held to a prior: a replica's prior is the mean of its pool (DESIGN, Speeds).
"""

from __future__ import annotations

import math

PRIOR_ERROR = 0.5  # standard deviation of a prior, as a part of it: priors are often 30 % off
NOISE = 0.1  # standard deviation of one chunk's time, as a part of it
DOUBT = 0.15  # a replica with more doubt than this is called unknown
RISK_PART = 0.4  # part of a known replica's risk that a plan reserves: all idles it (measured)
MOST_RISK = 0.7  # the most that is reserved for an unknown one: more idles a fleet (measured)
FORGET = 0.99  # weight of all earlier results when a new one comes: about 100 results count
MIN_OVERHEAD_MS = 1.0
LEAST = 0.02  # neither figure is fitted below this part of its prior
FACTORS = (0.05, 20.0)  # a time beyond these factors of the expected one is cut to them


class SpeedFit:
    """Overhead (ms for each chunk) and slope (ms of work for each ms of padded audio)."""

    def __init__(self, overhead_ms: float, slope: float) -> None:
        self.overhead_ms, self.slope = max(overhead_ms, MIN_OVERHEAD_MS), slope
        self._prior = (self.overhead_ms, self.slope)
        self._n = self._x = self._xx = 0.0  # sums of weight, weight * x, weight * x * x
        self._y = self._xy = 0.0  # the same with the time y: weight * y, weight * x * y
        self._noise = NOISE * NOISE  # variance of one chunk's time, as a part of it
        self._covariance = self._prior_covariance()

    def _prior_covariance(self) -> tuple[float, float, float]:
        overhead_ms, slope = self._prior
        return (PRIOR_ERROR * overhead_ms) ** 2, 0.0, (PRIOR_ERROR * slope) ** 2

    def chunk_ms(self, padded_ms: float) -> float:
        return self.overhead_ms + padded_ms * self.slope

    @property
    def is_new(self) -> bool:
        """Whether it has not learned from any result."""
        return self._n == 0.0

    def hold_to(self, overhead_ms: float, slope: float) -> None:
        """Replaces the prior."""
        self._prior = (max(overhead_ms, MIN_OVERHEAD_MS), slope)
        if self.is_new:
            self.overhead_ms, self.slope = self._prior
            self._covariance = self._prior_covariance()

    def set_to(self, overhead_ms: float, slope: float) -> None:
        """Replaces what was learned by these figures."""
        self.overhead_ms, self.slope = overhead_ms, slope

    def learn(self, padded_ms: float, busy_ms: float, weight: float = 1.0) -> None:
        """Takes the time of one batch; `weight` is below 1 if several results share one batch."""
        expected_ms = max(self.chunk_ms(padded_ms), 1e-3)
        busy_ms = min(max(busy_ms, expected_ms * FACTORS[0]), expected_ms * FACTORS[1])
        precision = weight / (NOISE * busy_ms) ** 2
        keep = FORGET**weight
        self._n = keep * self._n + precision
        self._x = keep * self._x + precision * padded_ms
        self._xx = keep * self._xx + precision * padded_ms * padded_ms
        self._y = keep * self._y + precision * busy_ms
        self._xy = keep * self._xy + precision * padded_ms * busy_ms
        miss = (busy_ms - expected_ms) / expected_ms
        self._noise += 0.05 * weight * (min(miss * miss, 0.25) - self._noise)
        self._solve()

    def risk(self, n_workers: int, padded_ms: float) -> float:
        """How much longer the slowest of so many such chunks may take, as a part of the time.

        The expected largest of n normal deviations is about sqrt(2 ln n) standard deviations.
        """
        unluckiest = math.sqrt(2 * math.log(max(n_workers, 1))) * self.spread(padded_ms)
        if self.doubt(padded_ms) > DOUBT:
            return min(MOST_RISK, unluckiest)
        return RISK_PART * unluckiest

    def spread(self, padded_ms: float) -> float:
        """The standard deviation of such a chunk's time, as a part of it: noise and doubt."""
        return math.sqrt(self._noise + self.doubt(padded_ms) ** 2)

    def doubt(self, padded_ms: float) -> float:
        """The standard deviation of such a chunk's *expected* time, as a part of it."""
        overhead, both, slope = self._covariance
        variance = overhead + (2 * both + slope * padded_ms) * padded_ms
        return math.sqrt(max(0.0, variance)) / self.chunk_ms(padded_ms)

    def _solve(self) -> None:
        overhead_ms, slope = self._prior
        hold_overhead = 1 / (PRIOR_ERROR * overhead_ms) ** 2
        hold_slope = 1 / (PRIOR_ERROR * slope) ** 2
        a, b, c = self._n + hold_overhead, self._x, self._xx + hold_slope
        y0, y1 = self._y + hold_overhead * overhead_ms, self._xy + hold_slope * slope
        determinant = a * c - b * b
        self._covariance = (c / determinant, -b / determinant, a / determinant)
        self.overhead_ms = max((y0 * c - y1 * b) / determinant, LEAST * overhead_ms)
        self.slope = max((a * y1 - b * y0) / determinant, LEAST * slope)


class KnownSpeeds:
    """Rate and mean speed of a pool's replicas that have answered at least once.

    The mean is one of the replicas' fits. A single fit over all results would be wrong: fast
    replicas get long chunks, so long chunks would seem to take less time for each second.
    """

    def __init__(self, overhead_ms: float, slope: float, batch_audio_ms: int) -> None:
        self._prior, self._batch_audio_ms = (overhead_ms, slope), batch_audio_ms
        self.n = 0
        self.rate = 0.0  # audio that all of them recognise in a unit of time, in full batches
        self._overheads_ms = self._slopes = 0.0  # sums

    def add(self, fit: SpeedFit) -> None:
        self._count(fit, 1)

    def remove(self, fit: SpeedFit) -> None:
        """Takes out a fit that was added; needed before it learns more."""
        self._count(fit, -1)

    def typical(self) -> tuple[float, float]:
        """Overhead and slope to expect of a new replica; the priors count like one more replica."""
        overhead_ms, slope = self._prior
        n = self.n + 1
        return (overhead_ms + self._overheads_ms) / n, (slope + self._slopes) / n

    def mean(self) -> tuple[float, float]:
        """Overhead and slope of the replicas that have answered; there must be one."""
        return self._overheads_ms / self.n, self._slopes / self.n

    def _count(self, fit: SpeedFit, n: int) -> None:
        if fit.is_new:
            return
        self.n += n
        self.rate += n * self._batch_audio_ms / fit.chunk_ms(self._batch_audio_ms)
        self._overheads_ms += n * fit.overhead_ms
        self._slopes += n * fit.slope
        if not self.n:  # rounding leaves sums that are not exactly zero
            self.rate = self._overheads_ms = self._slopes = 0.0
