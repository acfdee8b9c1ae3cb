"""How fast a pool and each of its replicas are, learned from results (DESIGN 3).

A chunk of padded length x takes overhead + x / speed. One factor for both misleads: what is learned
on long chunks would be wrong for short ones. So both are fitted, by least squares held to the
priors, and a replica has one factor beside its pool.
"""

from __future__ import annotations

import math

PRIOR_ERROR = 0.4  # standard deviation of a prior, relative: data sheets are no better
NOISE = 0.1  # of one result, relative
FORGET = 0.99  # a pool's older results count less: 100 of them weigh about as much as for ever
RISK_PART = 0.4  # of the expected maximum of so many draws; all of it leaves too much for later
LEARNING_RATE = 0.25  # of a replica's factor
MIN_OVERHEAD_MS = 1.0
FACTORS = (0.05, 20.0)  # a result beyond these says that something else happened


class SpeedFit:
    """Overhead (ms a chunk) and slope (ms of work per ms of padded audio) of one pool."""

    def __init__(self, overhead_ms: float, speed: float) -> None:
        self._prior = (max(overhead_ms, MIN_OVERHEAD_MS), 1.0 / speed)
        self.overhead_ms, self.slope = overhead_ms, 1.0 / speed
        self._xx = [0.0, 0.0, 0.0]  # sums of weight, weight * x, weight * x * x
        self._xy = [0.0, 0.0]
        self._noise = NOISE * NOISE  # of one result, relative and squared
        self._covariance = (
            (PRIOR_ERROR * self._prior[0]) ** 2,
            0.0,
            (PRIOR_ERROR * self._prior[1]) ** 2,
        )

    def chunk_ms(self, padded_ms: float) -> float:
        return self.overhead_ms + padded_ms * self.slope

    def learn(self, padded_ms: float, busy_ms: float, weight: float = 1.0) -> None:
        """Takes one batch's time; `weight` is less where several results tell of one batch."""
        expected_ms = max(self.chunk_ms(padded_ms), 1e-3)
        busy_ms = min(max(busy_ms, expected_ms * FACTORS[0]), expected_ms * FACTORS[1])
        precision = weight / (NOISE * busy_ms) ** 2
        terms = (precision, precision * padded_ms, precision * padded_ms * padded_ms)
        self._xx = [FORGET**weight * a + b for a, b in zip(self._xx, terms, strict=True)]
        self._xy[0] = FORGET**weight * self._xy[0] + precision * busy_ms
        self._xy[1] = FORGET**weight * self._xy[1] + precision * padded_ms * busy_ms
        miss = (busy_ms - expected_ms) / expected_ms
        self._noise += 0.05 * weight * (min(miss * miss, 0.25) - self._noise)
        self._solve()

    def risk(self, n_workers: int) -> float:
        """How much longer than expected, relative, the last of so many chunks may well take."""
        return RISK_PART * math.sqrt(2 * math.log(max(n_workers, 1)) * self._noise)

    @property
    def noise(self) -> float:
        """How far results are from what is expected, relative."""
        return math.sqrt(self._noise)

    @property
    def doubt(self) -> float:
        """How well the slope is known: its standard deviation, relative."""
        return math.sqrt(max(0.0, self._covariance[2])) / self.slope

    def _solve(self) -> None:
        overhead_ms, slope = self._prior
        hold = (1 / (PRIOR_ERROR * overhead_ms) ** 2, 1 / (PRIOR_ERROR * slope) ** 2)
        a, b, c = self._xx[0] + hold[0], self._xx[1], self._xx[2] + hold[1]
        y0, y1 = self._xy[0] + hold[0] * overhead_ms, self._xy[1] + hold[1] * slope
        determinant = a * c - b * b
        fitted = (y0 * c - y1 * b) / determinant, (a * y1 - b * y0) / determinant
        self._covariance = (c / determinant, -b / determinant, a / determinant)
        self.overhead_ms = max(fitted[0], 0.02 * overhead_ms)
        self.slope = max(fitted[1], 0.02 * slope)


def learned_factor(factor: float, expected_ms: float, busy_ms: float) -> float:
    """A replica's factor on its pool's times after one more result."""
    seen = min(max(busy_ms / max(expected_ms, 1e-3), FACTORS[0]), FACTORS[1])
    return factor + LEARNING_RATE * (seen - factor)
