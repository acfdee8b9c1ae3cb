"""The values that real clients write into a form, and what the service makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.api.form import FIELDS, LISTS, NO_EFFECT
from deployments.core.errors import BadRequest
from tests.api.reading import WHISPER, read_fields

INDEXED = {"timestamp_granularities[0]": "segment", "timestamp_granularities[1]": "word"}
BOTH = {"hotwords[]": ["魔搭", "New York"], "hotwords": "通义 魔搭，千问"}
LONG = "会议" * 650  # 1,300 characters


@pytest.mark.parametrize("value", ["1", "true", "True", "TRUE", "yes", "on", " true "])
def test_true_has_many_spellings(value: str) -> None:
    form = read_fields({"stream": value, "itn": value})

    assert (form.stream, form.options.itn) == (True, True)


@pytest.mark.parametrize("value", ["0", "false", "False", "no", "off", "", "null", "undefined"])
def test_false_has_many_spellings_and_so_has_nothing(value: str) -> None:
    form = read_fields({"stream": value, "itn": value})

    assert (form.stream, form.options.itn) == (False, False)


@pytest.mark.parametrize("value", ["2", "sometimes", "真", "x" * 500])
def test_what_is_neither_true_nor_false_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="stream is") as caught:
        read_fields({"stream": value})

    assert caught.value.param == "stream"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", ["", "null", "None", "undefined", " "])
@pytest.mark.parametrize("name", ["response_format", "channel", "timestamp_granularities[]"])
def test_a_value_that_a_program_lacks_counts_as_not_sent(name: str, value: str) -> None:
    form = read_fields({name: value})

    assert (form.response_format, form.options.channel) == ("json", None)
    assert form.granularities == ("segment",)


@pytest.mark.parametrize(
    ("fields", "granularities"),
    [
        ({"timestamp_granularities[]": "word,segment"}, ("word", "segment")),
        ({"timestamp_granularities": "word segment"}, ("word", "segment")),
        ({"timestamp_granularities": '["word", "segment"]'}, ("word", "segment")),
        ({"timestamp_granularities[]": "['word']"}, ("word",)),
        ({"timestamp_granularities[]": ["Word", "word"]}, ("word",)),
        (INDEXED, ("segment", "word")),
        ({"timestamp_granularities[]": ["", "word"]}, ("word",)),
        ({"timestamp_granularities": "[]"}, ("segment",)),
    ],
)
def test_granularities_come_in_many_forms(
    fields: dict[str, str], granularities: tuple[str, ...]
) -> None:
    form = read_fields(fields | {"response_format": "verbose_json"})

    assert form.granularities == granularities
    assert form.options.word_times is ("word" in granularities)


def test_another_granularity_is_refused() -> None:
    with pytest.raises(BadRequest, match="'character'"):
        read_fields(
            {"timestamp_granularities": "word,character", "response_format": "verbose_json"}
        )


@pytest.mark.parametrize(
    ("fields", "hotwords"),
    [
        (BOTH, ("魔搭", "New York", "通义", "魔搭", "千问")),
        ({"keywords[]": ["魔搭", "New York"]}, ("魔搭", "New York")),
        ({"keywords": "魔搭,千问"}, ("魔搭", "千问")),
        ({"keywords[0]": "魔搭", "keywords[1]": "New York"}, ("魔搭", "New York")),
        ({"hotwords": '["魔搭", "New York"]'}, ("魔搭", "New York")),
        ({"hotwords[]": "[music]"}, ("[music]",)),
        ({"hotwords": "110 119"}, ("110", "119")),
    ],
)
def test_hotwords_are_a_list_or_stand_in_one_field(
    fields: dict[str, str], hotwords: tuple[str, ...]
) -> None:
    form = read_fields(fields)

    assert form.options.hints.hotwords == hotwords
    assert form.without_effect == ()


@pytest.mark.parametrize(
    ("value", "hotwords"),
    [
        ('{"魔搭": 20}', ("魔搭",)),
        ('{"魔搭": 20, "New York": 3.5}', ("魔搭", "New York")),
        (' {"魔搭": {"weight": 20}}', ("魔搭",)),
        ("魔搭 20\n千问 30\n", ("魔搭", "千问")),
        ("魔搭 -1.5,千问", ("魔搭", "千问")),
    ],
)
def test_funasrs_weights_are_left_out_and_named(value: str, hotwords: tuple[str, ...]) -> None:
    form = read_fields({"hotwords": value})

    assert form.options.hints.hotwords == hotwords
    assert form.without_effect == ("weights of hotwords",)


def test_brackets_that_are_no_json_are_a_word() -> None:
    deep = "[" * 100_000

    assert read_fields({"hotwords": deep}).options.hints.hotwords == (deep,)


@pytest.mark.parametrize("value", ['{"魔搭": 20', "{魔搭}", "[1, 2]", "{" * 100_000])
def test_json_that_holds_no_hotwords_is_refused(value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_fields({"hotwords": value})
    assert caught.value.param == "hotwords"


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"languages[]": ["en", "zh"]}, "en,zh"),
        ({"languages": "zh"}, "zh"),
        ({"languages[0]": "zh", "languages[1]": "en"}, "zh,en"),
        ({"language": "zh", "languages[]": ["en"]}, "zh"),
        ({"languages[]": ""}, None),
    ],
)
def test_languages_are_one_list(fields: dict[str, str], language: str | None) -> None:
    assert read_fields(fields).options.hints.language == language


def test_a_long_prompt_is_shortened_where_it_is_read_and_named_where_it_is_not() -> None:
    read_by_whisper = read_fields({"prompt": LONG}, engine=WHISPER)
    read_by_none = read_fields({"prompt": LONG * 100})

    assert read_by_whisper.without_effect == ("only the last 1000 characters of prompt are used",)
    assert read_by_none.without_effect == ("prompt",)


def test_texts_are_bounded_together() -> None:
    with pytest.raises(BadRequest, match="texts have more than"):
        read_fields({"prompt": "x" * 600_000, "hotwords": "y" * 600_000})


NAMES = st.sampled_from([*FIELDS, *LISTS, *NO_EFFECT]) | st.text(max_size=20)
SUFFIXES = st.sampled_from(["", "[]", "[0]", "[a][b]", "[", "]"])
VALUES = st.text(max_size=40) | st.sampled_from(['{"a": 1}', "[]", "1", "zh", "word", "json"])


@given(st.dictionaries(st.builds(str.__add__, NAMES, SUFFIXES), VALUES, max_size=6))
def test_any_fields_are_read_or_refused_and_their_warnings_fit_a_header(
    fields: dict[str, str],
) -> None:
    fields.pop("file", None)
    try:
        warnings = read_fields(fields).without_effect
    except BadRequest:
        return
    assert all(warning.isascii() and warning.isprintable() for warning in warnings)
    assert len(", ".join(warnings)) < 2000


@pytest.mark.parametrize(
    ("fields", "timed"),
    [
        ({}, False),
        ({"response_format": "json", "stream": "true"}, False),
        ({"response_format": "text", "itn": "true"}, False),
        ({"response_format": "verbose_json"}, False),
        ({"response_format": "verbose_json", "timestamp_granularities[]": "segment"}, False),
        ({"response_format": "verbose_json", "timestamp_granularities[]": "word"}, True),
        ({"response_format": "srt"}, True),
        ({"response_format": "vtt"}, True),
        ({"response_format": "detailed_json"}, True),
        ({"response_format": "detailed_json", "stream": "true"}, True),
    ],
)
def test_word_times_are_computed_only_for_answers_that_show_them(
    fields: dict[str, str], timed: bool
) -> None:
    assert read_fields(fields).options.timed is timed
