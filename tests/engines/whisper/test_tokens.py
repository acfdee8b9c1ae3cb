"""Whisper's vocabulary and token rules, on a vocabulary of a few letters; no weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import ModelUnavailable
from deployments.engines.whisper.tokens import (
    TimedTokens,
    TokenRules,
    Vocabulary,
    heard_until_ms,
    load_vocabulary,
    timed_tokens,
)

LETTERS = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]]
LETTERS += [chr(256 + i) for i in range(256 - len(LETTERS))]  # one for every byte
MERGES = ["a b", "ab c", "Ġ ab"]
WORDS = [*LETTERS, "ab", "abc", "Ġab"]
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|zh|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nocaptions|>",
    "<|notimestamps|>",
]
TIMES = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]


def ids(tokens: list[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens")
    every = ids([*WORDS, *SPECIAL, *TIMES])
    tokenizer = {
        "model": {"vocab": ids(WORDS), "merges": MERGES},
        "added_tokens": [{"content": t, "id": every[t]} for t in [*SPECIAL, *TIMES]],
    }
    generation = {
        "lang_to_id": {"<|en|>": every["<|en|>"], "<|zh|>": every["<|zh|>"]},
        "suppress_tokens": [every["#"], every["<|startofprev|>"]],
        "begin_suppress_tokens": [every["Ġ"], every["<|endoftext|>"]],
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def vocabulary(model_dir: Path) -> Vocabulary:
    return load_vocabulary(model_dir)


def test_letters_are_merged_by_rank(vocabulary: Vocabulary) -> None:
    tokens = [vocabulary.token_of_id[i] for i in vocabulary.encode("abc xab ab!")]

    assert tokens == ["abc", "Ġ", "x", "ab", "Ġab", "!"]


@given(text=st.text(max_size=30))
def test_text_survives_the_tokens(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_special_tokens_in_a_prompt_stay_text(vocabulary: Vocabulary) -> None:
    encoded = vocabulary.encode("<|endoftext|>")

    assert max(encoded) < vocabulary.end


def test_half_a_character_is_left_out(vocabulary: Vocabulary) -> None:
    encoded = vocabulary.encode("好的")

    assert vocabulary.decode(encoded[:-1]) == "好"


def test_the_prefix_without_a_prompt_is_the_task(vocabulary: Vocabulary) -> None:
    named = [vocabulary.token_of_id[i] for i in vocabulary.prefix("zh", "")]

    assert named == ["<|startoftranscript|>", "<|zh|>", "<|transcribe|>"]


def test_of_a_long_prompt_the_end_counts(vocabulary: Vocabulary) -> None:
    prefix = vocabulary.prefix("zh", "x" * 500 + "!")

    assert len(prefix) == 1 + 223 + 3
    assert vocabulary.token_of_id[prefix[0]] == "<|startofprev|>"
    assert vocabulary.token_of_id[prefix[-4]] == "!"


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="fetch the weights"):
        load_vocabulary(tmp_path)


def allowed(vocabulary: Vocabulary, written: list[int], *, max_time_ms: int = 4000) -> set[int]:
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    logits[: vocabulary.end + 1] = 20.0  # otherwise the many times together would win
    ruled = TokenRules(vocabulary, max_time_ms).apply(logits, written)
    return set(np.flatnonzero(np.isfinite(ruled)).tolist())


def test_the_first_token_is_a_time_within_a_second(vocabulary: Vocabulary) -> None:
    zero = vocabulary.time_zero

    assert allowed(vocabulary, []) == set(range(zero, zero + 51))


def test_times_do_not_pass_the_end_of_the_audio(vocabulary: Vocabulary) -> None:
    zero = vocabulary.time_zero

    assert allowed(vocabulary, [], max_time_ms=100) == set(range(zero, zero + 6))
    assert max(allowed(vocabulary, [zero, 5])) == zero + 200


def test_text_follows_the_first_time(vocabulary: Vocabulary) -> None:
    options = allowed(vocabulary, [vocabulary.time_zero])

    assert options < set(range(vocabulary.end))
    assert vocabulary.id_of_token["Ġ"] not in options
    assert vocabulary.id_of_token["#"] not in options


def test_text_may_go_on_or_end_at_a_later_time(vocabulary: Vocabulary) -> None:
    zero = vocabulary.time_zero

    options = allowed(vocabulary, [zero + 10, 5])

    assert vocabulary.end in options
    assert zero + 11 in options
    assert zero + 10 not in options
    assert vocabulary.id_of_token["<|zh|>"] not in options


def test_after_the_end_of_a_phrase_comes_the_next_start_or_nothing(vocabulary: Vocabulary) -> None:
    zero = vocabulary.time_zero

    options = allowed(vocabulary, [zero, 5, zero + 50])

    assert options == {vocabulary.end, *range(zero + 50, zero + 201)}


def test_likely_times_together_beat_one_likelier_letter(vocabulary: Vocabulary) -> None:
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    logits[5] = 3.0

    ruled = TokenRules(vocabulary, 4000).apply(logits, [vocabulary.time_zero, 7])

    assert ruled.argmax() > vocabulary.time_zero


def written_at_random(
    vocabulary: Vocabulary, n_written: int, rng: np.random.Generator
) -> list[int]:
    """The tokens of a model with random logits that obeys the rules."""
    rules = TokenRules(vocabulary, 2000)
    written: list[int] = []
    for _ in range(n_written):
        wanted = rng.standard_normal(vocabulary.n_tokens).astype(np.float32) * 4
        wanted[vocabulary.end] = -50.0
        written.append(int(rules.apply(wanted, written).argmax()))
    return written


@given(data=st.data())
def test_whatever_the_model_wants_the_times_are_in_order(
    vocabulary: Vocabulary, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    n_written = data.draw(st.integers(0, 12))
    rng = np.random.default_rng(seed)

    written = written_at_random(vocabulary, n_written, rng)

    times = [token for token in written if token >= vocabulary.time_zero]
    assert times == sorted(times)
    assert all(run.tokens for run in timed_tokens(written, vocabulary))


def test_runs_carry_the_times_round_them(vocabulary: Vocabulary) -> None:
    zero = vocabulary.time_zero
    written = [zero, 1, 2, zero + 50, zero + 60, 3, zero + 90, zero + 90, 4]

    assert timed_tokens(written, vocabulary) == [
        TimedTokens((1, 2), 0, 1000),
        TimedTokens((3,), 1200, 1800),
        TimedTokens((4,), 1800, None),
    ]


@pytest.mark.parametrize(
    ("tail", "until_ms"),
    [((1,), 20_000), ((1, 250), 20_000), ((1, 250, 250), 5000), ((1, 20, 20), 20_000)],
)
def test_two_times_at_the_end_say_where_to_go_on(
    vocabulary: Vocabulary, tail: tuple[int, ...], until_ms: int
) -> None:
    zero = vocabulary.time_zero
    written = [zero, tail[0], *(zero + time for time in tail[1:])]

    assert heard_until_ms(written, vocabulary, 20_000) == until_ms
