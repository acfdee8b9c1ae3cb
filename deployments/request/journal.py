"""What a request that must survive its process writes down, and what an earlier attempt left.

An interactive request has no journal. A job has one: the segments that the VAD found and each
recognition. A later attempt begins with the answers that are known. All other steps are run again
and come to the same results: decoding, punctuation, numbers in digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployments.core.segments import Answer
from deployments.core.types import Audio, Segment, TranscriptSegment


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier attempts at the same recording left."""

    segments: Sequence[Segment] = ()  # in the order of their indices, from 0
    is_all: bool = False  # the VAD had read to the end
    answers: Mapping[int, Answer] = field(default_factory=dict)  # by segment index


class Journal(Protocol):
    """Each method returns once what it got is kept. It raises where the work has to end."""

    async def before(self, audio: Audio) -> Before:
        """Called once, with the decoded recording."""

    async def planned(self, segments: Sequence[Segment], *, is_all: bool) -> None:
        """Segments that are new. With `is_all` there are no more."""

    async def keep(self, answers: Mapping[int, Answer], final: Sequence[TranscriptSegment]) -> None:
        """Answers that are new, and the segments whose text is final with them.

        A later attempt tells those segments again.
        """


class Forgetful:
    """The journal of a request that nobody will try again."""

    async def before(self, audio: Audio) -> Before:
        return Before()

    async def planned(self, segments: Sequence[Segment], *, is_all: bool) -> None:
        pass

    async def keep(self, answers: Mapping[int, Answer], final: Sequence[TranscriptSegment]) -> None:
        pass
