"""The simulated requests that have not ended, and which of their segments still lack an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.simulation.scenario import Arrival, Done, Outcome
from deployments.core.scheduler.events import Order


@dataclass(slots=True)
class _Open:
    """A request that has arrived and has not ended."""

    arrival: Arrival
    missing: set[int]  # segments without an answer
    given_up: int = 0  # segments for which the scheduler stopped trying


class Requests:
    """All open requests. Each request that ends is written to the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        self.accepted_ms = 0.0  # audio of every request that ever arrived
        self._outcome = outcome
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def arrive(self, arrival: Arrival) -> dict[int, int]:
        """Opens the request. Returns segment -> length in ms, as the scheduler wants them."""
        lengths_ms = dict(enumerate(arrival.lengths_ms))
        self._open[arrival.name] = _Open(arrival, set(lengths_ms))
        self.accepted_ms += sum(arrival.lengths_ms)
        return lengths_ms

    def refuse(self, request: str) -> None:
        """The scheduler does not accept the request: it ends without an answer."""
        self._open.pop(request, None)
        self._outcome.refused += 1

    def answer(
        self, now_ms: float, request: str, segments: Sequence[int], *, given_up: bool = False
    ) -> None:
        """The segments are recognised or given up. Only the first answer of a segment counts."""
        if request not in self._open:
            return
        one = self._open[request]
        fresh = one.missing.intersection(segments)
        one.missing -= fresh
        if given_up:
            one.given_up += len(fresh)
        else:
            self._outcome.answers.setdefault(request, []).extend(fresh)
        if not one.missing:
            del self._open[request]
            latency_ms = now_ms - one.arrival.at_ms
            audio_ms = sum(one.arrival.lengths_ms)
            self._outcome.done.append(Done(request, now_ms, latency_ms, audio_ms, one.given_up))

    def lengths_ms(self, order: Order) -> list[int]:
        """The lengths of a chunk's segments; of a request that has ended, almost nothing."""
        if order.request not in self._open:
            return [1]  # a real replica skips a chunk that was cancelled before the chunk began
        lengths_ms = self._open[order.request].arrival.lengths_ms
        return [lengths_ms[segment] for segment in order.segments]
