"""Turns a request's answers, which come in any order, into text that goes out in order.

The deltas joined are the transcript's text; what was given out never changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from deployments.core.errors import EngineFailed
from deployments.core.punctuating import GrowingDocument
from deployments.core.segments import Answer, merge
from deployments.core.text import join_texts, join_words, space_words
from deployments.core.types import (
    EngineInfo,
    PunctuationStep,
    PunctuationTask,
    Segment,
    Transcript,
    TranscriptSegment,
    Word,
)

Punctuate: TypeAlias = Callable[[PunctuationTask], Awaitable[PunctuationStep]]


class Writer:
    """One request's; `punctuate` is None where the engine or nobody puts the marks."""

    def __init__(
        self, segments: Sequence[Segment], engine: EngineInfo, punctuate: Punctuate | None
    ) -> None:
        self._segments, self._engine, self._punctuate = segments, engine, punctuate
        self._answers: dict[int, Answer] = {}
        self._merged: list[TranscriptSegment] = []  # the finished prefix, in order
        self._document = None if punctuate is None else GrowingDocument()
        self._words: list[Word] = []  # marked, final
        self._text = ""

    async def add(self, answers: dict[int, Answer]) -> str:
        """Text that is final now, following what was returned before; may be empty."""
        self._answers |= answers
        fresh: list[TranscriptSegment] = []
        while (index := len(self._merged) + len(fresh)) in self._answers:
            fresh += merge([self._segments[index]], self._answers)
        self._merged += fresh
        return await self._write(fresh, final=False) if fresh else ""

    async def finish(self) -> str:
        """The rest of the text, once every segment has its answer."""
        assert len(self._merged) == len(self._segments)
        return await self._write([], final=True)

    def progress_ms(self) -> tuple[int, int]:
        """Speech recognised so far, and all of it."""
        done = sum(self._segments[i].n_ms for i in self._answers)
        return done, sum(segment.n_ms for segment in self._segments)

    def transcript(self, *, duration_ms: int, language: str) -> Transcript:
        """The whole. Raises EngineFailed where every segment failed: that is no transcript."""
        errors = [s.error for s in self._merged if s.error]
        if errors and len(errors) == len(self._merged):
            raise EngineFailed(errors[0])
        segments = self._merged
        if self._engine.has_word_times:
            segments, at = [], 0
            for segment in self._merged:
                words = tuple(self._words[at : at + len(segment.words)])
                at += len(words)
                segments.append(replace(segment, words=words, text=join_words(words)))
        return Transcript(
            text=self._text,
            duration_ms=duration_ms,
            segments=tuple(segments),
            language=language,
            model=self._engine.name,
            has_word_times=self._engine.has_word_times,
            warnings=tuple(f"Segment {s.index}: {s.error}" for s in segments if s.error),
        )

    async def _write(self, fresh: Sequence[TranscriptSegment], *, final: bool) -> str:
        if not self._engine.has_word_times:
            joined = join_texts([self._text, *(segment.text for segment in fresh)])
            delta = joined[len(self._text) :]
        else:
            words = [word for segment in fresh for word in segment.words]
            marked = await self._punctuated(words, final=final)
            self._words += marked
            delta = "".join((" " if w.space else "") + w.text + w.mark for w in marked)
            if not self._text:
                delta = delta.lstrip()
        self._text += delta
        return delta

    async def _punctuated(self, words: Sequence[Word], *, final: bool) -> Sequence[Word]:
        """Words that are final now; all of them at once where there is no punctuation stage."""
        if self._document is None or self._punctuate is None:
            return space_words([*self._words[-1:], *words])[len(self._words[-1:]) :]
        task = self._document.task(words, final=final)
        if not task.words and not task.carry:
            return ()
        return self._document.absorb(await self._punctuate(task))
