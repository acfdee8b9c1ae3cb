"""What a request still needs: segments that wait, in the order in which they are best sent.

Sending the longest segments first makes chunks with little padding. But the text of a long
recording should come out from its beginning, so only a window of a few batches is sorted by
length. Adding and removing segments cost little, however long the recording is.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Segments: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Segments that were lost together and are sent again together, if possible elsewhere."""

    segments: Segments
    lengths_ms: tuple[int, ...]
    avoid_pool: str  # where they were lost
    avoid_replica: str = ""  # that could not recognise them; empty: it has died, or is unknown
    suspect: bool = False  # a single segment, lost twice already, that may kill its replica


@dataclass(slots=True)
class Backlog:
    """Segments that wait: those of the window, longest first, and the later ones in time order."""

    window: list[tuple[int, int]] = field(default_factory=list)  # (-length_ms, segment), sorted
    later: deque[tuple[int, int]] = field(default_factory=deque)  # (segment, length_ms)
    window_ms: int = 0
    later_ms: int = 0
    members: set[int] = field(default_factory=set)

    @property
    def waiting_ms(self) -> int:
        return self.window_ms + self.later_ms

    def add(self, lengths_ms: Mapping[int, int]) -> int:
        """Takes the segments that do not wait already; returns the milliseconds added."""
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
        """Moves later segments into the window once it holds no more than `least_ms`.

        If less than half a window would then be left, that rest is moved too.
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
        """Puts segments that were removed before into the window again."""
        for segment, length_ms in lengths_ms.items():
            bisect.insort(self.window, (-length_ms, segment))
        self.members.update(lengths_ms)
        self.window_ms += sum(lengths_ms.values())

    def lengths_ms(self) -> list[int]:
        """The lengths of the window's segments, longest first."""
        return [-negative for negative, _ in self.window]

    def pop(self, first: int, stop: int) -> tuple[Segments, tuple[int, ...]]:
        """Removes the part [first, stop) of the window; returns its segments and their lengths."""
        popped = self.window[first:stop]
        del self.window[first:stop]
        segments = tuple(segment for _, segment in popped)
        lengths_ms = tuple(-negative for negative, _ in popped)
        self.members.difference_update(segments)
        self.window_ms -= sum(lengths_ms)
        return segments, lengths_ms

    def find(self, length_ms: int, segment: int) -> int:
        """The index of the segment in the window."""
        return bisect.bisect_left(self.window, (-length_ms, segment))


@dataclass(slots=True)
class Request:
    """A request as the scheduler knows it."""

    name: str
    interactive: bool
    number: int  # in order of arrival
    background: bool = False  # goes behind the others
    backlog: Backlog = field(default_factory=Backlog)
    retries: list[Retry] = field(default_factory=list)
    losses: dict[int, int] = field(default_factory=dict)  # segment -> how often it may be to blame
    open: set[int] = field(default_factory=set)  # its orders that are not closed
    suspect: int = 0  # the order of the suspect that was sent last; 0: none was
    coming_ms: int = 0  # audio that may still be submitted
    served_ms: float = 0.0  # audio sent so far; requests that had less go first

    @property
    def waiting_ms(self) -> int:
        return self.backlog.waiting_ms + sum(sum(r.lengths_ms) for r in self.retries)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it waits, is outstanding or may still be submitted."""
        waits = self.backlog.members or self.retries
        return not (waits or self.open or self.coming_ms)
