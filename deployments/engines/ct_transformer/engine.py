"""CT-Transformer punctuation: FunASR's step algorithm, incremental and for many documents at once.

FunASR reads a text in pieces of 20 words. Each piece is read together with the unfinished sentence
before it, and the text is printed up to the last full stop that is certain. Here a document may
arrive in parts, and the pieces of several documents run in one batch. The finished words, joined,
are the text that `AutoModel.generate` prints for the whole document.

If the first word that FunASR prints for a piece is ASCII, FunASR puts a space before the word, also
at the start of a document. `MarkedWord.space` does the same.

For a model with a `jieba_usr_dict`, the text equals FunASR's if FunASR gets the words joined by
spaces. FunASR's own ASR leaves out spaces beside Chinese, and jieba then joins words across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, islice
from pathlib import Path

from deployments.core.types import MarkedWord, PunctuationStep, PunctuationTask
from deployments.engines.checkpoint import load_checkpoint, refuse_as_unavailable
from deployments.engines.ct_transformer.chinese_words import ChineseWords
from deployments.engines.ct_transformer.network import PackedSanm
from deployments.engines.ct_transformer.pieces import (
    COMMA,
    LIST_COMMA,
    NO_MARK,
    QUESTION,
    STOP,
    Pieces,
)
from deployments.engines.device import ONLY_FP32, prepare, translated
from deployments.engines.protocols import EngineSettings

PIECE_WORDS = {
    "exact": 20,  # FunASR's split_size
    "windowed": 160,
}
# How many texts one pass of the network reads. If there are fewer documents, each is read from
# several places. More texts gain nothing on a CPU, because one piece of 160 words keeps it busy.
# Fewer texts do not keep a GPU busy.
TEXTS_AT_ONCE = {("cpu", "exact"): 6, ("cpu", "windowed"): 1}
TEXTS_AT_ONCE |= {("cuda", "exact"): 64, ("cuda", "windowed"): 16}
ASCII_MARKS = {COMMA: ",", STOP: ".", QUESTION: "?"}


class _Document:
    """A task in tokens, which are its words, or dictionary words that may not match its words.

    A piece or a sentence may end inside a word ("U.S." is four dictionary words), but a step
    returns whole words. So a step ends at the last piece where both ends are ends of words. The
    pieces after it are read again in the next step.
    """

    def __init__(self, task: PunctuationTask, carry: list[str], pending: list[str]) -> None:
        self._words = (*task.carry, *task.words)
        self._final = task.final
        self._n_carry = len(carry)
        self.tokens = carry + pending

    def pieces(self, piece_words: int, sentence_end: str) -> Pieces:
        return Pieces(self._n_carry, len(self.tokens), self._final, piece_words, sentence_end)

    def step(self, pieces: Pieces) -> PunctuationStep:
        """The task's result, after its pieces have been read."""
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
    """Puts marks after words. A word is one non-ASCII character or a run of ASCII.

    A model with a `jieba_usr_dict` reads dictionary words and puts marks after these.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        """Raises ModelUnavailable if the directory or the settings cannot be used."""
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

        Raises OutOfMemory if the batch does not fit into the device's memory, EngineFailed for
        any other failure of the model.
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
                pieces.record(place, marks)
        return [d.step(pieces) for d, pieces in zip(documents, all_pieces, strict=True)]

    def _document(self, task: PunctuationTask) -> _Document:
        """The task in tokens.

        The carry was cut off between two tokens, so it is cut into the same tokens as before.
        """
        if self._dictionary is None:
            return _Document(task, list(task.carry), list(task.words))
        carry = self._dictionary.cut(task.carry)
        return _Document(task, carry, self._dictionary.cut(task.words, final=task.final))

    @translated("CT-Transformer")
    def _predict(self, pieces: Sequence[Sequence[str]]) -> list[list[str]]:
        """The mark after each token of each piece."""
        unknown = self._ids["<unk>"]
        ids = [[self._ids.get(word, unknown) for word in piece] for piece in pieces]
        return [[self._marks[i] for i in row] for row in self._network.best_marks(ids)]


def render(words: Sequence[str], marks: Sequence[str]) -> list[MarkedWord]:
    """The words as FunASR prints them.

    Foreign words get spaces, ASCII marks, and a capital letter at the start of a sentence. As in
    FunASR, `capitalize` turns the rest of such a word into small letters.
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
    """Turns printed tokens into printed words: the same characters in another division.

    Spaces and marks that are printed inside a word become part of its text. FunASR prints "U.S."
    as "U . S .".
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
    """The words, with a full stop at the end unless they end in one or in a question mark.

    The full stop replaces a comma at the end.
    """
    last = words[-1]
    text, mark = last.text, last.mark
    end = (text + mark)[-1]
    if end in (COMMA, LIST_COMMA, ","):
        text, mark = (text, mark[:-1]) if mark else (text[:-1], "")
    if end not in (STOP, QUESTION, ".", "?"):
        mark += "." if end.isascii() else STOP
    return [*words[:-1], MarkedWord(text, mark, last.space)]
