"""CT-Transformer punctuation: FunASR's step algorithm, incremental, many documents at a time.

FunASR reads a text in pieces of 20 words, each behind the unfinished sentence before it, and
prints up to the last full stop that it can be sure of. Here a document may arrive bit by bit, and
the pieces of several documents run in one padded batch; the words done, joined, are what
`AutoModel.generate` prints for the whole text. FunASR puts a space before the first word of a
piece's output where it is in ASCII, at the start of a document too; so does `MarkedWord.space`.
For a model with a `jieba_usr_dict` the text is the words joined by spaces, also in FunASR's hands:
of the words of its own ASR it leaves out the spaces beside Chinese, and jieba then joins words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path

import torch

from deployments.core.errors import EngineFailed, OutOfMemory
from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask
from deployments.engines.checkpoint import load_checkpoint, refuse_as_unavailable
from deployments.engines.chinese_words import ChineseWords
from deployments.engines.device import ONLY_FP32, prepare
from deployments.engines.packed_sanm import PackedSanm
from deployments.engines.protocols import EngineSettings

PIECE_WORDS = 20  # FunASR's split_size
MAX_CARRY_WORDS = 200  # cache_pop_trigger_limit: a longer sentence is cut at a comma
# Every step reads the unfinished sentence again, so one that never ends costs the square of its
# length (an hour without a mark: minutes, and gigabytes). No speech is like that; noise may be.
MAX_UNMARKED_WORDS = 2000
NO_MARK, COMMA, STOP, QUESTION, LIST_COMMA = "_", "，", "。", "？", "、"
ASCII_MARKS = {COMMA: ",", STOP: ".", QUESTION: "?"}


@dataclass(slots=True)
class _Document:
    """A task on its way through its pieces, in tokens: words, or dictionary words of several.

    A piece may begin or a sentence end inside a word ("U.S." is four dictionary words). A step
    gives whole words, so it goes back to the last piece after which neither was so, `resume`;
    the pieces after it are read again in the next step.
    """

    words: Sequence[str]  # as the task has them: carry, then what has not been read
    carry: list[str]
    pending: list[str]
    final: bool
    done: list[MarkedWord] = field(default_factory=list)
    n_done_chars: int = 0
    word_ends: dict[int, int] = field(init=False)  # characters to the number of words they are
    resume: tuple[int, int, int] = field(init=False)  # tokens done, words done, words read

    def __post_init__(self) -> None:
        lengths = accumulate(map(len, self.words), initial=0)
        self.word_ends = {n_chars: n_words for n_words, n_chars in enumerate(lengths)}
        self.resume = (0, 0, self.word_ends[sum(map(len, self.carry))])

    def next_piece(self) -> tuple[list[str], bool] | None:
        """The tokens to read now and whether they end the document; None where none are ready.

        FunASR treats the last piece otherwise, so a full piece waits until more tokens follow it.
        """
        is_last = self.final and len(self.pending) <= PIECE_WORDS
        if is_last and not (self.carry or self.pending):
            return None
        if not is_last and len(self.pending) <= PIECE_WORDS:
            return None
        return self.carry + self.pending[:PIECE_WORDS], is_last

    def finish_piece(self, marked: list[MarkedWord], carry: list[str]) -> None:
        self.done += marked
        self.carry = carry
        self.pending = self.pending[PIECE_WORDS:]
        self.n_done_chars += sum(len(token.text) for token in marked)
        n_done = self.word_ends.get(self.n_done_chars)
        n_read = self.word_ends.get(self.n_done_chars + sum(map(len, carry)))
        if n_done is not None and n_read is not None:
            self.resume = (len(self.done), n_done, n_read)

    def step(self) -> PunctuationStep:
        n_tokens, n_done, n_read = self.resume
        done = spread(self.done[:n_tokens], self.words[:n_done])
        if self.final and done:
            done = end_text(done)
        carry, pending = self.words[n_done:n_read], self.words[n_read:]
        return PunctuationStep(tuple(done), tuple(carry), tuple(pending))


class CtTransformer:
    """Puts marks behind words; each word is one non-ASCII character or a run of ASCII.

    A model with a `jieba_usr_dict` reads dictionary words; marks stand behind these.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable where the directory or the settings cannot be used."""
        device = prepare(settings, ONLY_FP32)
        checkpoint = load_checkpoint(model_dir, settings.name, classes=("CTTransformer",))
        user_dict = checkpoint.config.get("jieba_usr_dict")
        with refuse_as_unavailable(settings.name, model_dir):
            self._dictionary = ChineseWords(model_dir / user_dict) if user_dict else None
            self._network = PackedSanm(
                checkpoint.model.to(device), padded_attention=device.type == "cuda"
            )
        self._ids = {token: i for i, token in enumerate(checkpoint.tokens)}
        self._marks: list[str] = list(checkpoint.model.punc_list)
        self._sentence_end = self._marks[checkpoint.model.sentence_end_id]

    def punctuate(self, batch: Sequence[PunctuationTask]) -> list[PunctuationStep]:
        """One step per task; documents do not influence each other.

        Raises OutOfMemory where the batch does not fit into the device, EngineFailed otherwise.
        """
        documents = [self._document(task) for task in batch]
        while pieces := [(d, piece) for d in documents if (piece := d.next_piece())]:
            marks = self._predict([words for _, (words, _) in pieces])
            for (document, (words, is_last)), found in zip(pieces, marks, strict=True):
                if is_last:
                    document.finish_piece(render(words, found), [])
                else:
                    n_done, found = cut_sentences(found, self._sentence_end)
                    document.finish_piece(render(words[:n_done], found[:n_done]), words[n_done:])
        return [document.step() for document in documents]

    def _document(self, task: PunctuationTask) -> _Document:
        """The task in tokens; its carry ends between two, so it is cut as it was before."""
        words = (*task.carry, *task.words)
        if self._dictionary is None:
            return _Document(words, list(task.carry), list(task.words), task.final)
        carry = self._dictionary.cut(task.carry)
        pending = self._dictionary.cut(task.words, final=task.final)
        return _Document(words, carry, pending, task.final)

    def _predict(self, pieces: Sequence[Sequence[str]]) -> list[list[str]]:
        """The mark behind each word of each piece."""
        unknown = self._ids["<unk>"]
        ids = [[self._ids.get(word, unknown) for word in piece] for piece in pieces]
        try:
            best = self._network.best_marks(ids)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(f"The texts do not fit into the device's memory: {error}") from error
        except RuntimeError as error:
            raise EngineFailed(f"CT-Transformer failed: {error}") from error
        return [[self._marks[i] for i in row] for row in best]


def cut_sentences(marks: list[str], sentence_end: str) -> tuple[int, list[str]]:
    """How many words are done, and the marks.

    Done is up to the last full stop, not counting the last word and the first two; in a sentence
    of over MAX_CARRY_WORDS words the last comma becomes a full stop. One of over
    MAX_UNMARKED_WORDS without any mark ends there, which FunASR does not do.
    """
    inner = range(len(marks) - 2, 1, -1)
    for i in inner:
        if marks[i] in (STOP, QUESTION):
            return i + 1, marks
    if len(marks) <= MAX_CARRY_WORDS:
        return 0, marks
    comma = next((i for i in inner if marks[i] == COMMA), None)
    if comma is None and len(marks) > MAX_UNMARKED_WORDS:
        comma = len(marks) - 2
    if comma is None:
        return 0, marks
    return comma + 1, [*marks[:comma], sentence_end, *marks[comma + 1 :]]


def render(words: Sequence[str], marks: Sequence[str]) -> list[MarkedWord]:
    """The words as FunASR prints them: foreign ones spaced, with ASCII marks, capital at a start.

    `capitalize` makes the rest of such a word small, as FunASR does.
    """
    rendered = []
    for i, (word, mark) in enumerate(zip(words, marks, strict=True)):
        foreign = word[0].isascii()
        starts = i == 0 or marks[i - 1] in (STOP, QUESTION)
        text = word.capitalize() if foreign and starts else word
        printed = "" if mark == NO_MARK else ASCII_MARKS.get(mark, mark) if foreign else mark
        space = foreign and (i == 0 or words[i - 1][0].isascii())
        rendered.append(MarkedWord(text, printed, space))
    return rendered


def spread(tokens: Sequence[MarkedWord], words: Sequence[str]) -> list[MarkedWord]:
    """Printed tokens as printed words: the same characters, divided otherwise.

    What is printed inside a word (FunASR prints "U.S." as "U . S .") becomes part of its text.
    """
    characters = iter(
        MarkedWord(
            character,
            token.mark if i == len(token.text) - 1 else "",
            token.space and i == 0,
        )
        for token in tokens
        for i, character in enumerate(token.text)
    )
    spread_words = []
    for word in words:
        parts = list(islice(characters, len(word)))
        printed = "".join((" " if part.space else "") + part.text + part.mark for part in parts)
        space, mark = parts[0].space, parts[-1].mark
        text = printed[int(space) : len(printed) - len(mark)]
        spread_words.append(MarkedWord(text, mark, space))
    return spread_words


def end_text(words: list[MarkedWord]) -> list[MarkedWord]:
    """The last words, ending in a full stop or a question mark; a comma there makes way for it."""
    last = words[-1]
    text, mark = last.text, last.mark
    end = (text + mark)[-1]
    if end in (COMMA, LIST_COMMA, ","):
        text, mark = (text, mark[:-1]) if mark else (text[:-1], "")
    if end not in (STOP, QUESTION, ".", "?"):
        mark += "." if end.isascii() else STOP
    return [*words[:-1], MarkedWord(text, mark, last.space)]
