"""Names and codes of languages, as clients send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.engines.whisper_languages import WHISPER_LANGUAGES
from deployments.request.languages import served_language

CODES = (
    "zh ZH zho chi cmn zh-Hans zh-TW zh_CN zh_Hans_CN zh-cmn-Hans-CN zh_CN.UTF-8 cmn-Hans zh-guoyu"
)
NAMES = (
    "中文 普通话 普通話 汉语 國語 华语 简体中文 繁體中文 Mandarin Chinese chinois Chinesisch 中国語"
)


@pytest.mark.parametrize(
    "asked",
    [*CODES.split(), *NAMES.split(), " Mandarin Chinese ", "中文（简体）", "Chinese (Simplified)"],
)
def test_mandarin_has_many_names(asked: str) -> None:
    assert served_language(asked, ("zh",)) == "zh"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("eng", "en"),
        ("en-US", "en"),
        ("English", "en"),
        ("英语", "en"),
        ("日本語", "ja"),
        ("ger", "de"),
        ("Deutsch", "de"),
        ("jv", "jw"),  # Whisper has the older code
        ("fil", "tl"),
        ("iw", "he"),
    ],
)
def test_other_languages_are_known_by_code_and_name(asked: str, code: str) -> None:
    assert served_language(asked, WHISPER_LANGUAGES) == code


@pytest.mark.parametrize("code", WHISPER_LANGUAGES)
def test_every_served_code_means_itself(code: str) -> None:
    assert served_language(code, WHISPER_LANGUAGES) == code


@pytest.mark.parametrize("asked", ["auto", "AUTO", " ", "und", "mul", "null", "detect", "en,auto"])
def test_a_choice_left_to_the_model_is_no_language(asked: str) -> None:
    assert served_language(asked, ("zh",)) is None


@pytest.mark.parametrize("asked", ["xx", "en", "yue", "粤语", "Klingon", "q", "\0", "x" * 5000])
def test_a_language_that_is_not_served_is_refused(asked: str) -> None:
    with pytest.raises(LookupError):
        served_language(asked, ("zh",))


@pytest.mark.parametrize(
    ("asked", "code"), [("en,zh", "zh"), ("fr、日本語", "fr"), ("xx,de", "de"), ("zh;en", "zh")]
)
def test_of_several_the_default_is_taken_else_the_first(asked: str, code: str) -> None:
    assert served_language(asked, WHISPER_LANGUAGES) == code


@given(st.text(max_size=30))
def test_any_text_is_served_or_left_or_refused(asked: str) -> None:
    try:
        code = served_language(asked, ("zh", "en"))
    except LookupError:
        return
    assert code in ("zh", "en", None)
