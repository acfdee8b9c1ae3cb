"""Whisper's vocabulary, its rules for the next token, and its time tokens.

The vocabulary is read from two JSON files of a Hugging Face checkpoint: `tokenizer.json`
(byte-level BPE, as GPT-2's) and `generation_config.json` (languages, suppressed tokens).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.core.errors import ModelUnavailable

TIME_STEP_MS = 20  # of one time token, and of one state of the encoder
MIN_HEADWAY_MS = 1000
MAX_FIRST_TIME_TOKEN = 50  # speech starts within 1 s: openai/whisper, `max_initial_timestamp`
MAX_PROMPT_TOKENS = 223  # half the decoder's context, less <|startofprev|>: openai/whisper

# GPT-2's pattern for splitting text, in the standard library's syntax (`[^\W\d_]` is a letter).
_PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def _byte_letters() -> dict[int, str]:
    """The printable letter by which GPT-2's vocabulary writes each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_LETTER_OF_BYTE = _byte_letters()
_BYTE_OF_LETTER = {letter: byte for byte, letter in _LETTER_OF_BYTE.items()}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one checkpoint. Ids from `end` on are special, from `time_zero` on times."""

    token_of_id: dict[int, str]
    id_of_token: dict[str, int]
    merge_rank: dict[tuple[str, str], int]
    language_ids: dict[str, int]
    suppressed: tuple[int, ...]  # never allowed: brackets, music signs, special tokens
    suppressed_first: tuple[int, ...]  # not allowed as the first token: blank, end

    @property
    def n_tokens(self) -> int:
        return max(self.token_of_id) + 1

    @property
    def end(self) -> int:
        return self.id_of_token["<|endoftext|>"]

    @property
    def time_zero(self) -> int:
        return self.id_of_token["<|0.00|>"]

    @property
    def no_speech(self) -> int:
        return self.id_of_token["<|nocaptions|>"]

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text. The name of a special token in it is treated as plain text."""
        return [
            self.id_of_token[part]
            for piece in _PIECES.findall(text)
            for part in self._merged([_LETTER_OF_BYTE[byte] for byte in piece.encode()])
        ]

    def _merged(self, parts: list[str]) -> list[str]:
        never = len(self.merge_rank)
        while len(parts) > 1:
            ranks = [self.merge_rank.get(pair, never) for pair in pairwise(parts)]
            at = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[at] == never:
                break
            parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]
        return parts

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special tokens, time tokens and incomplete characters."""
        letters = "".join(self.token_of_id[i] for i in ids if i < self.end)
        return bytes(_BYTE_OF_LETTER[letter] for letter in letters).decode(errors="ignore")

    def prefix(self, language: str, prompt: str) -> list[int]:
        """The tokens that the decoder reads before it writes. A long prompt loses its beginning."""
        said_before = self.encode(" " + prompt.strip())[-MAX_PROMPT_TOKENS:] if prompt else []
        start = ["<|startofprev|>"] if said_before else []
        task = ["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>"]
        return [
            *(self.id_of_token[token] for token in start),
            *said_before,
            *(self.id_of_token[token] for token in task),
        ]


def load_vocabulary(model_dir: Path) -> Vocabulary:
    """The vocabulary in a checkpoint's directory. Raises ModelUnavailable if it cannot be read."""
    try:
        tokenizer = json.loads((model_dir / "tokenizer.json").read_text(encoding="utf-8"))
        generation = json.loads((model_dir / "generation_config.json").read_text(encoding="utf-8"))
        added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        id_of_token = tokenizer["model"]["vocab"] | added
        merges = (tuple(merge.split(" ")) for merge in tokenizer["model"]["merges"])
        return Vocabulary(
            token_of_id={i: token for token, i in id_of_token.items()},
            id_of_token=id_of_token,
            merge_rank={pair: rank for rank, pair in enumerate(merges)},
            language_ids={name[2:-2]: i for name, i in generation["lang_to_id"].items()},
            suppressed=tuple(generation["suppress_tokens"]),
            suppressed_first=tuple(generation["begin_suppress_tokens"]),
        )
    except (OSError, KeyError, ValueError) as error:
        raise ModelUnavailable(
            str(model_dir), f"its tokenizer cannot be read ({error}); fetch the weights again."
        ) from error


@dataclass(frozen=True)
class TokenRules:
    """Whisper's rules for the next token, for one window of audio (openai/whisper, decoding.py).

    Text stands between a start time and an end time. Times never go back, nor past `max_time_ms`.
    """

    vocabulary: Vocabulary
    max_time_ms: int

    def apply(self, logits: NDArray[np.float32], written: Sequence[int]) -> NDArray[np.float32]:
        """The logits, (n_tokens,), with -inf for each token that may not follow `written`."""
        end, zero = self.vocabulary.end, self.vocabulary.time_zero
        allowed = logits.copy()
        allowed[list(self.vocabulary.suppressed)] = -np.inf
        allowed[end + 1 : zero] = -np.inf
        allowed[zero + self.max_time_ms // TIME_STEP_MS + 1 :] = -np.inf
        if not written:
            allowed[:zero] = -np.inf
            allowed[zero + MAX_FIRST_TIME_TOKEN + 1 :] = -np.inf
            return allowed
        if len(written) == 1:
            allowed[list(self.vocabulary.suppressed_first)] = -np.inf
        after_time = written[-1] >= zero
        after_two_times = after_time and (len(written) < 2 or written[-2] >= zero)
        if after_two_times:
            allowed[zero:] = -np.inf
        elif after_time:
            allowed[:end] = -np.inf
        times = [token for token in written if token >= zero]
        first_allowed = times[-1] if after_time and not after_two_times else times[-1] + 1
        allowed[zero:first_allowed] = -np.inf
        if _time_is_likelier(allowed, zero):
            allowed[:zero] = -np.inf
        return allowed


def _time_is_likelier(logits: NDArray[np.float32], zero: int) -> bool:
    """Whether all time tokens together are likelier than the likeliest other token."""
    times = logits[zero:]
    peak = times.max()
    if peak == -np.inf:
        return False
    return bool(peak + np.log(np.exp(times - peak).sum()) > logits[:zero].max())


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """Text tokens between two time tokens. `end_ms` is None if the end time was not written."""

    tokens: tuple[int, ...]
    start_ms: int
    end_ms: int | None


def timed_tokens(written: Sequence[int], vocabulary: Vocabulary) -> list[TimedTokens]:
    """The runs of text tokens in `written`, in order, with the times before and after them."""
    runs: list[TimedTokens] = []
    start_ms, text = 0, list[int]()
    for token in written:
        if token < vocabulary.end:
            text.append(token)
        elif token >= vocabulary.time_zero:
            time_ms = (token - vocabulary.time_zero) * TIME_STEP_MS
            if text:
                runs.append(TimedTokens(tuple(text), start_ms, time_ms))
            start_ms, text = time_ms, []
    if text:
        runs.append(TimedTokens(tuple(text), start_ms, None))
    return runs


def heard_until_ms(written: Sequence[int], vocabulary: Vocabulary, window_ms: int) -> int:
    """How far into the window the model transcribed.

    If more speech follows, the model ends with two time tokens, and the last says how far it got.
    Otherwise it transcribed the whole window. The whole window is also assumed if that time is so
    early that the next window would hardly advance (openai/whisper, transcribe.py:
    `single_timestamp_ending`).
    """
    zero = vocabulary.time_zero
    if len(written) < 3 or written[-1] < zero or written[-2] < zero:
        return window_ms
    until_ms = (written[-1] - zero) * TIME_STEP_MS
    return until_ms if until_ms >= MIN_HEADWAY_MS else window_ms
