"""Where the objects of a job lie. All of them share one prefix, so that none is left behind."""

from __future__ import annotations

JOBS = "jobs"


def prefix(job: str) -> str:
    return f"{JOBS}/{job}"


def audio_key(job: str, number: int) -> str:
    """The recording as it was sent."""
    return f"{prefix(job)}/{number}/audio"


def peaks_key(job: str, number: int) -> str:
    return f"{prefix(job)}/{number}/peaks.json"


def result_key(job: str, number: int) -> str:
    """The transcript, as `detailed_json` has it."""
    return f"{prefix(job)}/{number}/result.json"
