"""SeACo's hotwords compared with FunASR's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.core.types import Hints
from deployments.engines.paraformer.hotwords import spell, spell_all
from tests.engines.conftest import Case

FEW = ("魔搭", "达摩院", "hello", "天气")
SEG_DICT = {"魔": ("魔",), "搭": ("搭",), "hello": ("hel@@", "lo")}
IDS = {"<unk>": 0, "魔": 1, "搭": 2, "hel@@": 3, "lo": 4}


def many(case: Case) -> tuple[str, ...]:
    """Hotwords that the model can spell, more than FunASR's filter of 50 lets through."""
    characters = [token for token in case.engine._tokens if "\u4e00" <= token <= "\u9fa5"]
    return tuple(map("".join, zip(characters[:60], characters[60:120], strict=True)))


@pytest.mark.parametrize("hotwords_of", [lambda case: FEW, many], ids=["few", "many"])
@pytest.mark.slow
def test_hotwords_change_the_text_as_in_funasr(
    seaco_case: Case, hotwords_of: Callable[[Case], tuple[str, ...]]
) -> None:
    hotwords = hotwords_of(seaco_case)
    audios = seaco_case.audios[:25]
    expected = [seaco_case.reference.read(a, hotword=" ".join(hotwords)) for a in audios]

    hints = Hints(hotwords=hotwords)
    alone = [seaco_case.engine.read([audio], hints)[0] for audio in audios]
    batched = seaco_case.engine.read(audios, hints)

    assert alone == expected
    assert batched == expected
    assert expected != seaco_case.expected[:25]


def test_blank_hotwords_are_none(seaco_case: Case) -> None:
    found = seaco_case.engine.read(seaco_case.audios[:5], Hints(hotwords=("", "  ")))

    assert found == seaco_case.expected[:5]


def test_only_seaco_says_that_it_takes_hotwords(seaco_case: Case, bicif_case: Case) -> None:
    assert seaco_case.engine.info.hints == ("hotwords",)
    assert bicif_case.engine.info.hints == ()


@pytest.mark.parametrize(
    ("hotword", "ids"),
    [
        ("魔搭", [1, 2]),
        ("HELLO 魔", [3, 4, 1]),
        ("魔x", [0]),
        ("魔天", [1, 0]),
        ("/etc/hosts.txt", [0]),
    ],
)
def test_a_hotword_is_spelt_in_tokens(hotword: str, ids: list[int]) -> None:
    assert spell(hotword, SEG_DICT, IDS) == ids


def test_a_hotword_without_any_token_is_left_out() -> None:
    assert spell_all(("魔天", "x-1", " "), SEG_DICT, IDS) == {"魔天": [1, 0]}


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Records the files that this process opens and the connections that it makes."""
    events: list[tuple[str, str]] = []
    is_watching = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event.startswith(("open", "socket.", "urllib.", "subprocess.")):
            events.append((event, str(arguments[0])))

    sys.addaudithook(note)  # cannot be removed again
    try:
        yield events
    finally:
        is_watching = False


def test_a_hotword_that_names_a_file_or_an_address_is_text(
    seaco_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FunASR would read hotwords from such files and URLs."""
    inside = tmp_path / "words.txt"
    inside.write_text("".join(FEW), "utf-8")
    hotwords = (str(inside), f"file://{inside}", "http://127.0.0.1:9/words.txt", "words.txt")
    monkeypatch.chdir(tmp_path)
    audios = seaco_case.audios[:3]
    plain = seaco_case.engine.transcribe(audios, Hints())

    with watched() as events:
        found = seaco_case.engine.transcribe(audios, Hints(hotwords=hotwords))
        inside.read_bytes()  # shows that an opened file is recorded

    assert [recognition.text for recognition in found] == [r.text for r in plain]
    assert {recognition.unspelt for recognition in found} == {hotwords}
    assert events == [("open", str(inside))]
