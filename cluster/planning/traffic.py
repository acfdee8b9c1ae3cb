"""How fast a fleet must be for some traffic, and how long a recording takes on it. Pure.

The model, with its assumptions:

- The busiest hour of the day has `peak_factor` times the average traffic (3 by default).
- A recording is cut into chunks for all replicas at once. So the fleet acts like one server that
  does `capacity` audio seconds per second.
- That server is an M/G/1 queue: Poisson arrivals, first come, first served. Lengths vary about
  `recording_min` as much as their mean (CV2 = 1). Then P(wait > t) is exactly
  rho x exp(-t (1 - rho) / S), with S = length / capacity.
- p95 is a sum: the wait that 95 % of the recordings stay under, S, and the time that a recording
  takes on a fleet of any size. The latter is there because one thread decodes the recording and one
  VAD reads it before its last chunk is known. TAIL_S follows.
- If `concurrent` recordings are sent at the same moment, the last of them waits for all.
- The fleet is never busier than MOST_BUSY in the busiest hour, so that a lost replica is no outage.
- The speeds of GPUs are what full batches could reach at best. The plan counts on PRIOR_TRUST of
  them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.core.errors import BadRequest

PEAK_FACTOR = 3.0
MOST_BUSY = 0.7
PRIOR_TRUST = 0.5
LATE = 0.05  # share of the recordings that may take longer than p95
CV2 = 1.0  # squared coefficient of variation of the recordings' lengths
TAIL_S = 2.0  # upload to disk, the last chunk, its punctuation, the answer
DAY_S = 86_400.0
BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class StageSpeed:
    """The speed of one replica of a stage, and the cores it takes."""

    audio_s_per_s: float
    cores: int
    source: str


# By stage, and for the punctuation by place. One thread decodes a recording, and one VAD reads it.
STAGE_SPEEDS: Mapping[str, StageSpeed] = {
    "vad": StageSpeed(1300.0, 1, "measured: one CPU thread; on a GPU the rule stays on the CPU"),
    "punctuation-gpu": StageSpeed(5000.0, 1, "believed: 4 documents at a time, 3 s a spoken hour"),
    "punctuation-cpu": StageSpeed(
        400.0, 1, "measured: ct-punc-zh, 9 CPU-s for an hour's 15k chars"
    ),
    "router": StageSpeed(2000.0, 2, "measured: 10 minutes decode in 0.3 to 0.8 s, two at once"),
}
DECODE_SPEED = STAGE_SPEEDS["router"].audio_s_per_s / STAGE_SPEEDS["router"].cores


@dataclass(frozen=True, slots=True)
class Traffic:
    """The recordings to serve, and the latency to aim at."""

    hours_per_day: float = 0.0  # of audio
    concurrent: int = 1  # recordings that are sent at the same moment
    recording_min: float = 30.0  # mean length
    p95_s: float | None = None  # aim: 95 % of the recordings are answered within this
    peak_factor: float = PEAK_FACTOR

    @property
    def recording_s(self) -> float:
        return self.recording_min * 60.0

    @property
    def peak(self) -> float:
        """Audio seconds that arrive per second in the busiest hour."""
        return self.hours_per_day * 3600.0 * self.peak_factor / DAY_S


def alone_s(traffic: Traffic) -> float:
    """The seconds that a recording takes on a fleet of any size."""
    speed = STAGE_SPEEDS["vad"].audio_s_per_s
    return traffic.recording_s / DECODE_SPEED + traffic.recording_s / speed + TAIL_S


def busy(traffic: Traffic, capacity: float) -> float:
    """The share of the busiest hour in which a fleet of this capacity (audio s/s) works."""
    return traffic.peak / capacity if capacity > 0 else math.inf


def p95_s(traffic: Traffic, capacity: float) -> float:
    """Seconds within which 95 % of the recordings are answered; infinite if the queue grows."""
    rho = busy(traffic, capacity)
    if rho >= 1.0:
        return math.inf
    one_s = traffic.recording_s / capacity
    scale_s = one_s * (1.0 + CV2) / 2.0 / (1.0 - rho)
    wait_s = scale_s * math.log(rho / LATE) if rho > LATE else 0.0
    return max(wait_s + one_s, traffic.concurrent * one_s) + alone_s(traffic)


def capacity_needed(traffic: Traffic) -> float:
    """The least capacity, in audio seconds per second, that meets the aims.

    Raises BadRequest if no fleet can meet them, because one recording alone takes longer.
    """
    least = traffic.peak / MOST_BUSY
    if traffic.p95_s is None:
        return least
    if alone_s(traffic) >= traffic.p95_s:
        raise BadRequest(
            f"p95 of {traffic.p95_s:g} s cannot be met by any fleet: decoding and VAD of a "
            f"recording of {traffic.recording_min:g} minutes take {alone_s(traffic):.1f} s."
        )
    high = max(least, 1.0)
    while p95_s(traffic, high) > traffic.p95_s:
        high *= 2.0
    low = least
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _meets(traffic, middle) else (middle, high)
    return high


def _meets(traffic: Traffic, capacity: float) -> bool:
    assert traffic.p95_s is not None
    return busy(traffic, capacity) <= MOST_BUSY and p95_s(traffic, capacity) <= traffic.p95_s
