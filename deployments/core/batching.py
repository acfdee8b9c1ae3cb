"""Batches of segments of similar length, none of which costs more than a budget.

The engine pads every segment of a batch to the longest one. So a batch costs its number of
segments times the longest, and the budget caps that product (DESIGN, Memory).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deployments.core.errors import OutOfMemory
from deployments.core.types import Audio, Recognition

logger = logging.getLogger("ray.serve")

MAX_WASTE = 0.06  # padding, as a part of a batch's audio
# Padding may cost this part of one more batch: hardly more time than the whole cost, less padding.
SLACK_PART = 0.75
SLACK_MS = 2000  # padding that is accepted where the cost of a batch is not known


def padded_ms(lengths_ms: Sequence[int]) -> int:
    """The cost of a batch of these lengths: all are padded to the longest."""
    return len(lengths_ms) * max(lengths_ms, default=0)


def worthwhile_slack_ms(overhead_ms: float, speed: float) -> int:
    """Milliseconds of padding that are accepted rather than one more batch.

    `overhead_ms` is the fixed cost of a batch, and `speed` the audio per time without it. Evenly
    spread lengths take the least time when the padding of a batch costs as much as one more batch.
    """
    return round(max(SLACK_MS, SLACK_PART * overhead_ms * speed))


def worth_padding_to_ms(audio_ms: float, slack_ms: float) -> float:
    """The longest padded length at which it pays to compute this audio as one batch."""
    return audio_ms + max(slack_ms, MAX_WASTE * audio_ms)


def pack(lengths_ms: Sequence[int], *, budget_ms: int, slack_ms: int = SLACK_MS) -> list[list[int]]:
    """Indices of `lengths_ms` in batches of similar length, none padded beyond `budget_ms`.

    The longest come first, so that neighbours differ little and padding is small. A batch ends
    where its padding would be more than MAX_WASTE of its audio and more than `slack_ms`. A single
    item over the budget is a batch of its own, because it cannot be made smaller here.
    """
    batches: list[list[int]] = []
    audio_ms = 0  # of the last batch, without its padding
    for index in sorted(range(len(lengths_ms)), key=lambda i: (-lengths_ms[i], i)):
        audio_ms += lengths_ms[index]
        if batches:
            cost_ms = (len(batches[-1]) + 1) * lengths_ms[batches[-1][0]]
            if cost_ms <= min(budget_ms, worth_padding_to_ms(audio_ms, slack_ms)):
                batches[-1].append(index)
                continue
        batches.append([index])
        audio_ms = lengths_ms[index]
    return batches


@dataclass(slots=True)
class Outcome:
    """Recognitions in the order of the batch, and whether memory ran out on the way."""

    recognitions: list[Recognition]
    out_of_memory: bool = False


def transcribe_or_halve(
    transcribe: Callable[[Sequence[Audio]], list[Recognition]], batch: Sequence[Audio]
) -> Outcome:
    """The batch's recognitions. A batch that fails is halved until only the bad segment fails.

    One bad segment never costs the others: its recognition has `error` set and no text.
    """
    try:
        return Outcome(transcribe(batch))
    except Exception as error:
        out_of_memory = isinstance(error, OutOfMemory)
        if len(batch) == 1:
            logger.exception("The engine failed on a segment of %d samples.", len(batch[0]))
            # The error's message may tell of the machine, so it is for the log alone.
            name = type(error).__name__
            failed = Recognition(text="", error=f"The engine failed on this segment: {name}")
            return Outcome([failed], out_of_memory)
    middle = len(batch) // 2
    left = transcribe_or_halve(transcribe, batch[:middle])
    right = transcribe_or_halve(transcribe, batch[middle:])
    return Outcome(
        left.recognitions + right.recognitions,
        out_of_memory or left.out_of_memory or right.out_of_memory,
    )
