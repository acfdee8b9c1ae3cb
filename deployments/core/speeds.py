"""How fast a pool and each of its replicas are, learned from results (DESIGN 3).

A chunk of padded length x takes overhead + x / speed. One factor for both misleads: what is learned
on long chunks would be wrong for short ones. So both are fitted, by least squares held to what is
thought before: for a pool its priors, for a replica its pool.
"""

from __future__ import annotations

import math

PRIOR_ERROR = 0.5  # standard deviation of a prior, relative: wrong by 30 % is no surprise
NOISE = 0.1  # of one result, relative
DOUBT = 0.15  # a replica is unknown where a chunk's time is less known than this, relative
RISK_PART = 0.4  # that is reserved for a known one: all leaves too much for later (measured)
MOST_RISK = 0.7  # reserved for an unknown one, of its time: more idles a large fleet (measured)
FORGET = 0.99  # older results count less: 100 of them weigh about as much as for ever
MIN_OVERHEAD_MS = 1.0
LEAST = 0.02  # of what was thought before: neither figure is fitted below
FACTORS = (0.05, 20.0)  # a result beyond these says that something else happened


class SpeedFit:
    """Overhead (ms a chunk) and slope (ms of work per ms of padded audio)."""

    def __init__(self, overhead_ms: float, slope: float) -> None:
        self.overhead_ms, self.slope = max(overhead_ms, MIN_OVERHEAD_MS), slope
        self._prior = (self.overhead_ms, self.slope)
        self._n = self._x = self._xx = 0.0  # sums of weight, weight * x, weight * x * x
        self._y = self._xy = 0.0
        self._noise = NOISE * NOISE  # of one result, relative and squared
        self._covariance = self._prior_covariance()

    def _prior_covariance(self) -> tuple[float, float, float]:
        overhead_ms, slope = self._prior
        return (PRIOR_ERROR * overhead_ms) ** 2, 0.0, (PRIOR_ERROR * slope) ** 2

    def chunk_ms(self, padded_ms: float) -> float:
        return self.overhead_ms + padded_ms * self.slope

    @property
    def is_new(self) -> bool:
        """Whether it has not seen a result."""
        return self._n == 0.0

    def hold_to(self, overhead_ms: float, slope: float) -> None:
        """Takes these for what is thought before any result."""
        self._prior = (max(overhead_ms, MIN_OVERHEAD_MS), slope)
        if self.is_new:
            self.overhead_ms, self.slope = self._prior
            self._covariance = self._prior_covariance()

    def take(self, overhead_ms: float, slope: float) -> None:
        """Takes figures that were found elsewhere."""
        self.overhead_ms, self.slope = overhead_ms, slope

    def learn(self, padded_ms: float, busy_ms: float, weight: float = 1.0) -> None:
        """Takes one batch's time; `weight` is less where several results tell of one batch."""
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
        """How much longer than expected, relative, the last of so many chunks may well take."""
        unluckiest = math.sqrt(2 * math.log(max(n_workers, 1))) * self.spread(padded_ms)
        if self.doubt(padded_ms) > DOUBT:
            return min(MOST_RISK, unluckiest)
        return RISK_PART * unluckiest

    def spread(self, padded_ms: float) -> float:
        """The standard deviation of such a chunk's time, relative: noise and doubt."""
        return math.sqrt(self._noise + self.doubt(padded_ms) ** 2)

    def doubt(self, padded_ms: float) -> float:
        """How well such a chunk's expected time is known: its standard deviation, relative."""
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
    """Of the replicas of a pool that have answered: their rate together, and their mean.

    A mean of fits, for a fit over all results would take what the fast ones do with long chunks
    and the slow ones with short chunks for a property of chunks.
    """

    def __init__(self, overhead_ms: float, slope: float, batch_audio_ms: int) -> None:
        self._prior, self._batch_audio_ms = (overhead_ms, slope), batch_audio_ms
        self.n = 0
        self.rate = 0.0  # audio per time on full batches
        self._overheads_ms = self._slopes = 0.0  # sums

    def add(self, fit: SpeedFit) -> None:
        self._count(fit, 1)

    def remove(self, fit: SpeedFit) -> None:
        """Takes out what was added, before the fit learns more."""
        self._count(fit, -1)

    def typical(self) -> tuple[float, float]:
        """Overhead and slope to think of one that is not known; the priors count as one known."""
        overhead_ms, slope = self._prior
        n = self.n + 1
        return (overhead_ms + self._overheads_ms) / n, (slope + self._slopes) / n

    def mean(self) -> tuple[float, float]:
        """Overhead and slope of those that are known: one at the least."""
        return self._overheads_ms / self.n, self._slopes / self.n

    def _count(self, fit: SpeedFit, n: int) -> None:
        if fit.is_new:
            return
        self.n += n
        self.rate += n * self._batch_audio_ms / fit.chunk_ms(self._batch_audio_ms)
        self._overheads_ms += n * fit.overhead_ms
        self._slopes += n * fit.slope
        if not self.n:  # what rounding leaves of a rate is none, but is not zero
            self.rate = self._overheads_ms = self._slopes = 0.0
