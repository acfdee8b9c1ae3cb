"""The hotwords of a request: checked, and which of them were applied."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.core.errors import BadRequest
from deployments.core.types import HotwordReport

MAX_HOTWORD_CHARS = 40  # a name or a term; longer ones are sentences and bias nothing
MAX_NAMED = 5  # in a warning


def check_hotwords(hotwords: Sequence[str], *, max_hotwords: int) -> tuple[str, ...]:
    """Each hotword once, in order, with single spaces between its words. Blank ones are dropped.

    Requests whose lists are then equal may share a batch. Raises BadRequest.
    """
    if isinstance(hotwords, str) or not all(isinstance(hotword, str) for hotword in hotwords):
        raise BadRequest("hotwords is a list of texts.", "hotwords")
    cleaned = tuple(dict.fromkeys(filter(None, (" ".join(word.split()) for word in hotwords))))
    if len(cleaned) > max_hotwords:
        raise BadRequest(f"There are more than {max_hotwords} hotwords.", "hotwords")
    for hotword in cleaned:
        if len(hotword) > MAX_HOTWORD_CHARS:
            shown = hotword[:MAX_HOTWORD_CHARS]
            raise BadRequest(
                f"The hotword {shown!r}... has more than {MAX_HOTWORD_CHARS} characters.",
                "hotwords",
            )
        if not hotword.replace(" ", "").isprintable():
            raise BadRequest(f"The hotword {hotword!r} has control characters.", "hotwords")
    return cleaned


def report_hotwords(asked: Sequence[str], unspelt: frozenset[str]) -> HotwordReport | None:
    """Which hotwords the engine listened for. None if the request had no hotwords."""
    if not asked:
        return None
    return HotwordReport(
        applied=tuple(word for word in asked if word not in unspelt),
        ignored=tuple(word for word in asked if word in unspelt),
    )


def warn_of_unspelt(unspelt: Sequence[str], model: str) -> str:
    """The sentence about hotwords that the model has no tokens for."""
    named = ", ".join(repr(word) for word in unspelt[:MAX_NAMED])
    more = f" and {len(unspelt) - MAX_NAMED} more" if len(unspelt) > MAX_NAMED else ""
    return f"hotwords: the model {model!r} has no tokens for {named}{more}; not applied."
