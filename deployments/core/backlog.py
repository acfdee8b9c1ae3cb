"""What a request still has to have recognised, in the order in which it is best sent.

Longest first packs well; windows of a few batches let a long recording's text come out from its
beginning. Adding and taking cost little, however long the recording is.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Segments: TypeAlias = tuple[int, ...]

MOST_DEATHS = 4  # with so many a segment is given up, whatever its last replica had beside it


@dataclass(frozen=True, slots=True)
class Retry:
    """What was lost and goes again as it is, elsewhere where it can."""

    segments: Segments
    lengths_ms: tuple[int, ...]
    avoid: str  # the pool it was lost in
    avoid_replica: str = ""  # and the replica, where it lives and is known
    suspect: bool = False  # one of those of which one kills: never two on their way at once


@dataclass(slots=True)
class Backlog:
    """Segments that wait: `window` longest first, the later ones in time order."""

    window: list[tuple[int, int]] = field(default_factory=list)  # (-length, segment)
    later: deque[tuple[int, int]] = field(default_factory=deque)  # (segment, length)
    window_ms: int = 0
    later_ms: int = 0
    members: set[int] = field(default_factory=set)

    @property
    def waiting_ms(self) -> int:
        return self.window_ms + self.later_ms

    def add(self, lengths_ms: Mapping[int, int]) -> int:
        """Takes the segments that do not wait already; returns their audio."""
        fresh = sorted(lengths_ms.keys() - self.members)
        if fresh and self.later and fresh[0] < self.later[-1][0]:
            self.later = deque(sorted([*self.later, *((s, lengths_ms[s]) for s in fresh)]))
        else:
            self.later.extend((s, lengths_ms[s]) for s in fresh)
        self.members.update(fresh)
        added_ms = sum(lengths_ms[s] for s in fresh)
        self.later_ms += added_ms
        return added_ms

    def refill(self, window_ms: float, least_ms: float) -> None:
        """Opens the next window once the present one holds no more than `least_ms`.

        A rest of less than half a window is joined to the window before it.
        """
        if self.window_ms > least_ms or not self.later:
            return
        goal_ms = self.later_ms if self.later_ms < 1.5 * window_ms else window_ms
        fresh: list[tuple[int, int]] = []
        moved_ms = 0
        while self.later and moved_ms < goal_ms:
            segment, length_ms = self.later.popleft()
            fresh.append((-length_ms, segment))
            moved_ms += length_ms
        self.window = sorted(self.window + fresh)
        self.window_ms += moved_ms
        self.later_ms -= moved_ms

    def put_back(self, lengths_ms: Mapping[int, int]) -> None:
        """Takes segments that were taken out before into the present window."""
        for segment, length_ms in lengths_ms.items():
            bisect.insort(self.window, (-length_ms, segment))
        self.members.update(lengths_ms)
        self.window_ms += sum(lengths_ms.values())

    def lengths_ms(self) -> list[int]:
        """Of the window, falling."""
        return [-negative for negative, _ in self.window]

    def take(self, start: int, stop: int) -> tuple[Segments, tuple[int, ...]]:
        """Removes a part of the window: its segments and their lengths."""
        taken = self.window[start:stop]
        del self.window[start:stop]
        segments = tuple(segment for _, segment in taken)
        lengths_ms = tuple(-negative for negative, _ in taken)
        self.members.difference_update(segments)
        self.window_ms -= sum(lengths_ms)
        return segments, lengths_ms

    def find(self, length_ms: int, segment: int) -> int:
        """Where the segment is in the window."""
        return bisect.bisect_left(self.window, (-length_ms, segment))


@dataclass(slots=True)
class Request:
    """A request as the scheduler knows it."""

    name: str
    interactive: bool
    number: int  # in order of arrival
    backlog: Backlog = field(default_factory=Backlog)
    retries: list[Retry] = field(default_factory=list)
    deaths: dict[int, int] = field(default_factory=dict)  # segment -> replicas lost with it
    open: set[int] = field(default_factory=set)  # orders
    suspect: int = 0  # the order of the suspect that was sent last
    coming_ms: int = 0
    served_ms: float = 0.0  # audio sent, and what others had been sent when it came: fairness

    @property
    def waiting_ms(self) -> int:
        return self.backlog.waiting_ms + sum(sum(r.lengths_ms) for r in self.retries)

    @property
    def waits(self) -> bool:
        return bool(self.backlog.members or self.retries)

    @property
    def over(self) -> bool:
        return not self.waits and not self.open and not self.coming_ms

    def blame(self, segments: Iterable[int]) -> None:
        """Counts a loss of each."""
        for segment in segments:
            self.deaths[segment] = self.deaths.get(segment, 0) + 1

    def lose(
        self,
        lengths_ms: Mapping[int, int],
        pool: str,
        *,
        lives: str | None = None,
        alone: bool = True,
    ) -> Segments:
        """Lets a lost chunk's segments go again; returns what is given up.

        The first loss is the replica's: if that died the segments are planned anew, and where it
        `lives` (its name, or empty) they go elsewhere together. Two losses are a segment's own:
        then it goes alone, and the one that is lost where its replica had nothing else (`alone`)
        is what kills. Together two of them might be lost with one.
        """
        suspects = {s: ms for s, ms in lengths_ms.items() if self.deaths.get(s, 0) >= 2}
        if len(lengths_ms) == 1 and any(alone or self.deaths[s] >= MOST_DEATHS for s in suspects):
            return tuple(suspects)
        others = {s: ms for s, ms in lengths_ms.items() if s not in suspects}
        if others and lives is not None:
            self.retries.append(Retry(tuple(others), tuple(others.values()), pool, lives))
        else:
            self.backlog.put_back(others)
        self.retries += [
            Retry((s,), (ms,), pool, lives or "", suspect=True) for s, ms in suspects.items()
        ]
        return ()
