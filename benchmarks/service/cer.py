"""The character error rate, after the one normaliser that every figure in RESULTS.md uses.

The normaliser applies NFKC, turns traditional characters into simplified ones, and lower-cases.
Then it keeps only letters, digits and Chinese characters: no punctuation, no spaces. It does not
convert numbers. `35%` for 百分之三十五 therefore counts as errors although nothing was misheard.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import jiwer

from deployments.engines.whisper.chinese_text import simplified


def normalised(text: str) -> str:
    """The text in the form in which texts are compared."""
    folded = simplified(unicodedata.normalize("NFKC", text)).lower()
    return "".join(letter for letter in folded if letter.isalnum())


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Errors divided by the characters of all references together; 0.1 is 10 %.

    Raises ValueError where the lists differ in length or the references hold no character.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    wanted = [normalised(text) for text in references]
    if not any(wanted):
        raise ValueError("no reference holds a character")
    return float(jiwer.cer(wanted, [normalised(text) for text in hypotheses]))
