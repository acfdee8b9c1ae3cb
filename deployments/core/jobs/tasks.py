"""Jobs as tasks of DashScope: their states, and which of them a list has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from deployments.core.jobs.model import CANCELED, COMPLETED, PROCESSING, QUEUED, State

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
STOPPED = "CANCELED"
UNKNOWN = "UNKNOWN"  # of a task that is not there
STATUSES = (PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, UNKNOWN)
OF_STATE: dict[State, str] = {
    QUEUED: PENDING,
    PROCESSING: RUNNING,
    COMPLETED: SUCCEEDED,
    "failed": FAILED,
    CANCELED: STOPPED,
}


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A page of the list. Pages count from 1, and the newest task is the first."""

    page_no: int = 1
    page_size: int = 10
    status: str | None = None
    created_after_s: float | None = None
    created_before_s: float | None = None


def task_status(state: State, files: Collection[State]) -> str:
    """The status of a task whose job has this state, and whose files have these.

    DashScope's rule for a task that has ended: one file that succeeded is enough. Its clients read
    the `subtask_status` of each file. Our own job is `completed` only if every file is.
    """
    if state in (QUEUED, PROCESSING):
        return OF_STATE[state]
    if CANCELED in files:
        return STOPPED
    return SUCCEEDED if COMPLETED in files else FAILED
