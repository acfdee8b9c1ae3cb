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
from itertools import accumulate, islice
from pathlib import Path

from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask
from deployments.engines.checkpoint import load_checkpoint, refuse_as_unavailable
from deployments.engines.chinese_words import ChineseWords
from deployments.engines.device import ONLY_FP32, prepare, translated
from deployments.engines.packed_sanm import PackedSanm
from deployments.engines.pieces import COMMA, LIST_COMMA, NO_MARK, QUESTION, STOP, Pieces
from deployments.engines.protocols import EngineSettings

PIECE_WORDS = {
    "exact": 20,  # FunASR's split_size
    "windowed": 160,
}
# Texts in one pass of the network where there are not as many documents: more gain nothing on a
# CPU, where one window is a full load already; a GPU is not busy with fewer.
TEXTS_AT_ONCE = {("cpu", "exact"): 6, ("cpu", "windowed"): 1}
TEXTS_AT_ONCE |= {("cuda", "exact"): 64, ("cuda", "windowed"): 16}
ASCII_MARKS = {COMMA: ",", STOP: ".", QUESTION: "?"}


class _Document:
    """A task on its way through its pieces, in tokens: words, or dictionary words of several.

    A piece may begin or a sentence end inside a word ("U.S." is four dictionary words). A step
    gives whole words, so it goes back to the last piece after which neither was so; the pieces
    after it are read again in the next step.
    """

    def __init__(self, task: PunctuationTask, carry: list[str], pending: list[str]) -> None:
        self._words = (*task.carry, *task.words)
        self._final = task.final
        self._n_carry = len(carry)
        self.tokens = carry + pending

    def pieces(self, piece_words: int, sentence_end: str) -> Pieces:
        return Pieces(self._n_carry, len(self.tokens), self._final, piece_words, sentence_end)

    def step(self, pieces: Pieces) -> PunctuationStep:
        """The task's answer, once its pieces have been read."""
        token_ends = list(accumulate(map(len, self.tokens), initial=0))
        lengths = accumulate(map(len, self._words), initial=0)
        word_ends = {n_chars: n_words for n_words, n_chars in enumerate(lengths)}
        done: list[MarkedWord] = []
        resume = (0, 0, word_ends[token_ends[self._n_carry]])  # tokens done, words done, words read
        for place, found in pieces.path():
            end = place.begin + found.n_done
            done += render(self.tokens[place.begin : end], found.marks[: found.n_done])
            n_done = word_ends.get(token_ends[end])
            n_read = word_ends.get(token_ends[pieces.end(place)])
            if n_done is not None and n_read is not None:
                resume = (len(done), n_done, n_read)
        n_tokens, n_done, n_read = resume
        done = spread(done[:n_tokens], self._words[:n_done])
        if self._final and done:
            done = end_text(done)
        return PunctuationStep(tuple(done), self._words[n_done:n_read], self._words[n_read:])


class CtTransformer:
    """Puts marks behind words; each word is one non-ASCII character or a run of ASCII.

    A model with a `jieba_usr_dict` reads dictionary words; marks stand behind these.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable where the directory or the settings cannot be used."""
        device = prepare(settings, ONLY_FP32)
        self._piece_words = PIECE_WORDS[settings.punctuation]
        self._texts_at_once = TEXTS_AT_ONCE[device.type, settings.punctuation]
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
        all_pieces = [d.pieces(self._piece_words, self._sentence_end) for d in documents]
        for pieces in all_pieces:
            pieces.share(self._texts_at_once // len(documents))
        while wanted := [
            (document, pieces, place)
            for document, pieces in zip(documents, all_pieces, strict=True)
            for place in pieces.wanted()
        ]:
            found = self._predict([d.tokens[at.begin : p.end(at)] for d, p, at in wanted])
            for (_, pieces, place), marks in zip(wanted, found, strict=True):
                pieces.take(place, marks)
        return [d.step(pieces) for d, pieces in zip(documents, all_pieces, strict=True)]

    def _document(self, task: PunctuationTask) -> _Document:
        """The task in tokens; its carry ends between two, so it is cut as it was before."""
        if self._dictionary is None:
            return _Document(task, list(task.carry), list(task.words))
        carry = self._dictionary.cut(task.carry)
        return _Document(task, carry, self._dictionary.cut(task.words, final=task.final))

    @translated("CT-Transformer")
    def _predict(self, pieces: Sequence[Sequence[str]]) -> list[list[str]]:
        """The mark behind each word of each piece."""
        unknown = self._ids["<unk>"]
        ids = [[self._ids.get(word, unknown) for word in piece] for piece in pieces]
        return [[self._marks[i] for i in row] for row in self._network.best_marks(ids)]


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
    if [len(token.text) for token in tokens] == [len(word) for word in words]:
        return list(tokens)
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
