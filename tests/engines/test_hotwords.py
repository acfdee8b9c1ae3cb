"""SeACo's hotwords against FunASR's."""

from __future__ import annotations

import pytest

from deployments.core.types import Hints
from deployments.engines.hotwords import spell
from tests.engines.conftest import Case

FEW = ("魔搭", "达摩院", "hello", "天气")
MANY = tuple(chr(0x4E00 + i) + chr(0x4E64 + i) for i in range(60))  # over FunASR's filter of 50
SEG_DICT = {"魔": ("魔",), "搭": ("搭",), "hello": ("hel@@", "lo")}
IDS = {"<unk>": 0, "魔": 1, "搭": 2, "hel@@": 3, "lo": 4}


@pytest.mark.parametrize("hotwords", [FEW, MANY], ids=["few", "many"])
@pytest.mark.slow
def test_hotwords_change_the_text_as_in_funasr(seaco_case: Case, hotwords: tuple[str, ...]) -> None:
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
