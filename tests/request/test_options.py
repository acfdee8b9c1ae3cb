"""The options of a request: refused, named in a warning, or handed to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from deployments.core.errors import BadRequest, UnknownModel
from deployments.core.types import (
    Audio,
    Hints,
    HotwordReport,
    Recognition,
    TranscribeOptions,
)
from deployments.request.plan import RouterPlan
from tests.request.harness import (
    TEXT_ONLY,
    echo,
    run,
)
from tests.request.test_requests import fake_calls


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        (TranscribeOptions(model="whisper-9"), UnknownModel, "model"),
        (TranscribeOptions(model="GPT-4o"), UnknownModel, "model"),
        (TranscribeOptions(word_times=True), BadRequest, "timestamp_granularities[]"),
        (TranscribeOptions(hints=Hints(language="xx")), BadRequest, "language"),
        (TranscribeOptions(hints=Hints(hotwords=tuple("abcd"))), BadRequest, "hotwords"),
        (TranscribeOptions(hints=Hints(hotwords=("x" * 41,))), BadRequest, "hotwords"),
    ],
)
def test_options_that_this_deployment_cannot_serve_are_refused_before_any_work(
    options: TranscribeOptions, error: type[BadRequest], param: str
) -> None:
    calls = fake_calls()

    with pytest.raises(error) as caught:
        run(calls, np.ones(64_000, np.int16), options, TEXT_ONLY)

    assert caught.value.param == param
    assert calls.n_chunks == 0


def test_a_hint_without_effect_is_a_warning_and_does_not_reach_the_engine() -> None:
    seen: list[Hints] = []

    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        seen.append(hints)
        return echo(batch, hints)

    asked = TranscribeOptions(hints=Hints(prompt="会议", hotwords=("魔搭",)), itn=True)
    transcript, _ = run(fake_calls(transcribe=note), np.ones(64_000, np.int16), asked, TEXT_ONLY)

    assert set(seen) == {Hints(prompt="会议")}
    assert transcript.hotwords == HotwordReport(applied=(), ignored=("魔搭",))
    assert transcript.warnings == (
        "hotwords: no effect with the model 'whisper-small'.",
        "itn: no effect with the model 'whisper-small'.",
    )


def heard(options: TranscribeOptions, plan: RouterPlan) -> tuple[set[Hints], tuple[str, ...]]:
    """The hints that reach the engine, and the transcript's warnings."""
    seen: set[Hints] = set()

    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        seen.add(hints)
        return echo(batch, hints)

    transcript, _ = run(fake_calls(transcribe=note), np.ones(64_000, np.int16), options, plan)
    return seen, transcript.warnings


def test_of_a_long_prompt_the_end_reaches_the_engine() -> None:
    options = TranscribeOptions(hints=Hints(prompt="a" * 1300 + "会议"))

    seen, warnings = heard(options, TEXT_ONLY)

    assert seen == {Hints(prompt="a" * 98 + "会议")}
    assert warnings == ("prompt: only the last 100 characters are used.",)


def test_where_no_prompt_is_allowed_none_is_used() -> None:
    plan = replace(TEXT_ONLY, max_prompt_chars=0)

    seen, warnings = heard(TranscribeOptions(hints=Hints(prompt="会议")), plan)

    assert seen == {Hints()}
    assert warnings == ("prompt: only the last 0 characters are used.",)


def test_a_long_prompt_for_an_engine_that_ignores_prompts_is_only_named() -> None:
    plan = replace(TEXT_ONLY, engine=replace(TEXT_ONLY.engine, hints=()))

    seen, warnings = heard(TranscribeOptions(hints=Hints(prompt="会议" * 650)), plan)

    assert seen == {Hints()}
    assert warnings == ("prompt: no effect with the model 'whisper-small'.",)


@pytest.mark.parametrize("model", ["whisper-small", "whisper-1", "gpt-4o-transcribe", None])
def test_the_model_is_known_by_its_name_and_aliases(model: str | None) -> None:
    transcript, _ = run(
        fake_calls(), np.ones(64_000, np.int16), TranscribeOptions(model=model), TEXT_ONLY
    )

    assert transcript.model == "whisper-small"


@pytest.mark.parametrize(
    ("options", "timed"),
    [
        (TranscribeOptions(), True),
        (TranscribeOptions(timed=False), False),
        (TranscribeOptions(timed=False, word_times=True), True),
        (TranscribeOptions(timed=False, itn=True), False),
    ],
)
def test_the_engine_is_told_whether_anyone_reads_word_times(
    options: TranscribeOptions, timed: bool
) -> None:
    seen: list[Hints] = []

    def note(batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        seen.append(hints)
        return echo(batch, hints)

    run(fake_calls(transcribe=note), np.ones(64_000, np.int16), options)

    assert {hints.timed for hints in seen} == {timed}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("en,auto", "zh"),
        ("en,zh", "zh"),
        ("中文", "zh"),
        ("eng", "en"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("Chinese", "zh"),
        ("EN", "en"),
        (None, "zh"),
    ],
)
def test_languages_are_known_by_their_common_names(asked: str | None, code: str) -> None:
    options = TranscribeOptions(hints=Hints(language=asked))

    transcript, _ = run(fake_calls(), np.ones(64_000, np.int16), options, TEXT_ONLY)

    assert transcript.language == code
