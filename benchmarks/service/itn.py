"""`itn`: sentences whose spoken numbers are written wrongly, by the service and by wetext alone.

The table is `benchmarks/material/spoken_numbers.yaml`: half of its sentences must change, and half
must stay as they are. White space is not compared.

- `wrong`: sentences whose text is not the right one, of `sentences`.
- `changed_that_must_not`: those of them that must stay. A changed word is worse than a missed one.
- `missed`: those of them that must change and did not.
- `wetext_...`: the same for wetext on whole sentences. wetext also writes units in its own way,
  such as 40s for 四十秒, and each of these is counted as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.results import Figures, say
from deployments.core.text import join_words
from deployments.core.types import Word
from deployments.request.itn import normalise

TABLE = Path(__file__).parent.parent / "material" / "spoken_numbers.yaml"
SPOKEN = re.compile(r"(\s*)([A-Za-z]+|[^\s，。、！？])([，。、！？]?)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as spoken, the text that is right for it, and its kind in the table."""

    kind: str
    said: str
    right: str

    @property
    def must_stay(self) -> bool:
        return self.said == self.right


def run(
    show: Annotated[bool, typer.Option(help="Print every wrong sentence.")] = False,
) -> Figures:
    """Spoken numbers in digits: the sentences that are wrong."""
    sentences = list(table())
    figures: Figures = {
        "sentences": len(sentences),
        "sentences_that_must_stay": sum(sentence.must_stay for sentence in sentences),
    }
    for side, write in (("", in_digits), ("wetext_", wetext_alone())):
        wrong = [(one, text) for one in sentences if (text := write(one.said)) != one.right]
        figures[f"{side}wrong"] = len(wrong)
        figures[f"{side}changed_that_must_not"] = sum(one.must_stay for one, _ in wrong)
        figures[f"{side}missed"] = sum(text == one.said for one, text in wrong)
        if show:
            for one, text in wrong:
                say(f"{side or 'service '}{one.kind}: {one.said} -> {text}, right: {one.right}")
    return figures


def table() -> Iterator[Sentence]:
    """The sentences of the table."""
    document: Any = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    for kind, changes in document["changes"].items():
        yield from (Sentence(kind, said, right) for said, right in changes.items())
    for kind, stays in document["stays"].items():
        yield from (Sentence(kind, said, said) for said in stays)


def words_of(said: str) -> list[Word]:
    """A word for each Chinese character and each foreign word, with the mark behind it."""
    return [
        Word(match[2], i, i + 1, mark=match[3], space=bool(match[1]))
        for i, match in enumerate(SPOKEN.finditer(said))
    ]


def in_digits(said: str) -> str:
    """The sentence as the service writes it, without white space."""
    written, failure = normalise(words_of(said), ())
    assert failure is None, failure
    return "".join(join_words(one.word for one in written).split())


def wetext_alone() -> Callable[[str], str]:
    """A function that gives wetext the whole sentence and takes out white space."""
    from wetext import Normalizer

    normalizer = Normalizer(lang="zh", operator="itn")
    return lambda said: "".join(str(normalizer.normalize(said)).split())
