"""The character error rate, behind the one normaliser that every figure in RESULTS.md uses.

Normaliser: NFKC, traditional to simplified characters, lower case, then letters, digits and
Chinese characters only (no punctuation, no space). Arabic digits and Chinese numerals are left
as they are: `35%` for 百分之三十五 counts as errors, though nothing was misheard.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import jiwer

from deployments.engines.chinese_text import simplified


def normalised(text: str) -> str:
    """The text as it is compared."""
    folded = simplified(unicodedata.normalize("NFKC", text)).lower()
    return "".join(letter for letter in folded if letter.isalnum())


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Errors over the characters of all references together; 0.1 is 10 %.

    Raises ValueError where the lists differ in length or the references hold no character.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    wanted = [normalised(text) for text in references]
    if not any(wanted):
        raise ValueError("no reference holds a character")
    return float(jiwer.cer(wanted, [normalised(text) for text in hypotheses]))
