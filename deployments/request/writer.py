"""Turns the answers of a request, which come in any order, into text in order.

The deltas, joined, are the text of the transcript. Text that was sent never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

from deployments.core.errors import EngineFailed, Overloaded
from deployments.core.hints import report_hotwords, warn_of_unspelt
from deployments.core.numbers.write import Written, spaced_behind
from deployments.core.punctuating import GrowingDocument
from deployments.core.segments import LOST, Answer, merge
from deployments.core.text import join_texts, join_words, space_words
from deployments.core.types import (
    EngineInfo,
    HotwordReport,
    PunctuationStep,
    PunctuationTask,
    Recognition,
    Segment,
    TranscribeOptions,
    Transcript,
    TranscriptSegment,
    Word,
)
from deployments.request.itn import has_effect, normalise

Punctuate: TypeAlias = Callable[[PunctuationTask], Awaitable[PunctuationStep]]
RETRY_S = 5.0  # by then a dead replica has a successor


class Writer:
    """Writes the text of one request. `punctuate` is None where there is no punctuation stage."""

    def __init__(
        self,
        segments: Sequence[Segment],
        engine: EngineInfo,
        punctuate: Punctuate | None,
        options: TranscribeOptions,
    ) -> None:
        self._segments, self._engine, self._punctuate = segments, engine, punctuate
        self._itn = options.itn and has_effect(engine)
        self._timed = engine.has_word_times and (options.timed or options.word_times)
        self._hotwords = options.hints.hotwords
        self._answers: dict[int, Answer] = {}
        self._merged: list[TranscriptSegment] = []  # the finished prefix, in order
        self._document = None if punctuate is None else GrowingDocument()
        self._words: list[Written] = []  # final, with their marks
        self._last_heard: list[Word] = []  # as spoken, where there is no punctuation stage
        self._starts: list[int] = []  # of each segment, counted in recognised words
        self._n_heard = self._n_final = 0  # recognised words: all of them, and those in `_words`
        self._n_told = self._n_written = 0  # segments told as final, and their words in `_words`
        self._failures: list[str] = []  # of ITN
        self._text = ""

    async def add(self, answers: dict[int, Answer], *, are_last: bool = False) -> str:
        """The text that has become final since the last call; may be empty.

        With the last answers every segment has its answer, and the rest of the text is final.
        """
        self._answers |= answers
        fresh: list[TranscriptSegment] = []
        while (index := len(self._merged) + len(fresh)) in self._answers:
            fresh += merge([self._segments[index]], self._answers)
        self._merged += fresh
        assert not are_last or len(self._merged) == len(self._segments)
        return await self._write(fresh, final=are_last) if fresh or are_last else ""

    def progress_ms(self) -> tuple[int, int]:
        """Milliseconds of speech that are recognised, and of all speech found so far."""
        done = sum(self._segments[i].n_ms for i in self._answers)
        return done, sum(segment.n_ms for segment in self._segments)

    def final_segments(self) -> list[TranscriptSegment]:
        """The segments whose text has become final since the last call, as in the transcript."""
        told = self._n_told
        if not self._engine.has_word_times:
            self._n_told = len(self._merged)
            return self._merged[told:]
        found: list[TranscriptSegment] = []
        for heard in self._merged[told:]:
            n_left, end = len(heard.words), self._n_written
            while n_left > 0 and end < len(self._words):
                n_left -= self._words[end].n_words
                end += 1
            if n_left > 0:
                break
            found.append(self._shown(_segment(heard, iter(self._words[self._n_written : end]))))
            self._n_written = end
        self._n_told += len(found)
        return found

    def transcript(self, *, duration_ms: int, language: str) -> Transcript:
        """The whole transcript. Raises EngineFailed if every segment failed.

        Raises Overloaded instead if any of them was lost with its replica.
        """
        errors = [s.error for s in self._merged if s.error]
        if errors and len(errors) == len(self._merged):
            raise Overloaded(RETRY_S) if LOST in errors else EngineFailed(errors[0])
        segments = self._merged
        if self._engine.has_word_times:
            left = iter(self._words)
            segments = [self._shown(_segment(heard, left)) for heard in self._merged]
        report = report_hotwords(self._hotwords, self._unspelt())
        return Transcript(
            text=self._text,
            duration_ms=duration_ms,
            segments=tuple(segments),
            language=language,
            model=self._engine.name,
            has_word_times=self._timed,
            itn=self._itn,
            hotwords=report,
            warnings=(
                *self._hotword_warnings(report),
                *(f"Segment {s.index}: {s.error}" for s in segments if s.error),
                *(f"itn: a sentence is left as spoken: {why}" for why in self._failures),
            ),
        )

    def _shown(self, segment: TranscriptSegment) -> TranscriptSegment:
        """The segment, without words where the engine was not asked for their times."""
        return segment if self._timed else replace(segment, words=())

    def _unspelt(self) -> frozenset[str]:
        """The hotwords that the engine could not listen for."""
        if "hotwords" not in self._engine.hints:
            return frozenset(self._hotwords)
        heard = self._heard()
        if self._answers and not heard:  # no engine could listen; in silence there was no need to
            return frozenset(self._hotwords)
        return frozenset(word for recognition in heard for word in recognition.unspelt)

    def _heard(self) -> list[Recognition]:
        return [a.recognition for a in self._answers.values() if a.recognition.error is None]

    def _hotword_warnings(self, report: HotwordReport | None) -> list[str]:
        if report is None or not report.ignored or not self._heard():
            return []
        if "hotwords" not in self._engine.hints:
            return []  # the router has its own sentence
        return [warn_of_unspelt(report.ignored, self._engine.name)]

    async def _write(self, fresh: Sequence[TranscriptSegment], *, final: bool) -> str:
        if not self._engine.has_word_times:
            joined = join_texts([self._text, *(segment.text for segment in fresh)])
            delta = joined[len(self._text) :]
        else:
            for segment in fresh:
                self._starts.append(self._n_heard)
                self._n_heard += len(segment.words)
            words = [word for segment in fresh for word in segment.words]
            marked = await self._punctuated(words, final=final)
            written = await self._in_digits(marked)
            self._words += written
            self._n_final += len(marked)
            delta = "".join(
                (" " if w.space else "") + w.text + w.mark for w in (one.word for one in written)
            )
            if not self._text:
                delta = delta.lstrip()
        self._text += delta
        return delta

    async def _punctuated(self, words: Sequence[Word], *, final: bool) -> Sequence[Word]:
        """The words that are final now. Without a punctuation stage these are all words."""
        if self._document is None or self._punctuate is None:
            last, self._last_heard = self._last_heard, [*self._last_heard, *words][-1:]
            return space_words([*last, *words])[len(last) :]
        task = self._document.task(words, final=final)
        if not task.words and not task.carry:
            return ()
        return self._document.absorb(await self._punctuate(task))

    async def _in_digits(self, marked: Sequence[Word]) -> list[Written]:
        """The final words as they are written: with numbers in digits if the request asks for it.

        Whole sentences are converted together. Without a punctuation stage the ends of sentences
        are unknown. Each segment is then converted alone, so that the text does not depend on
        which segments came together.
        """
        if not self._itn:
            return [Written(word) for word in marked]
        starts = [start - self._n_final for start in self._starts]
        cuts = [start for start in starts if 0 < start < len(marked)]
        bounds = [0, len(marked)] if self._document is not None else sorted({0, *cuts, len(marked)})
        written: list[Written] = []
        for first, end in pairwise(bounds):
            inner = {cut - first for cut in cuts}
            # In a thread: a number takes a millisecond, and the first one a third of a second.
            words, failure = await asyncio.to_thread(normalise, marked[first:end], inner)
            if words and (before := [*self._words[-1:], *written[-1:]]):
                beside = spaced_behind(before[-1].word, words[0].word)
                words[0] = replace(words[0], word=beside)
            written += words
            self._failures += [failure] if failure else []
        return written


def _segment(heard: TranscriptSegment, written: Iterator[Written]) -> TranscriptSegment:
    """The segment with its words as written, which are taken from the front of `written`."""
    words: list[Word] = []
    n_left = len(heard.words)
    while n_left:
        one = next(written)
        words.append(one.word)
        n_left -= one.n_words
    return replace(heard, words=tuple(words), text=join_words(words))
