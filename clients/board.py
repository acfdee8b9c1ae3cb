"""What `watch` shows: a bar for each file of each job, or lines where there is no terminal."""

from __future__ import annotations

from rich.progress import Progress, TaskID

from clients.jobs.model import Job
from clients.options import complain
from clients.request import cleaned


class Board:
    """The bars. Without a terminal each new state of a file is a line; a failure is one always."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[str, int], TaskID] = {}
        self._states: dict[tuple[str, int], str] = {}

    def show(self, job: Job) -> None:
        """Called by the thread of each job."""
        for file in job.files:
            at, total_s = (job.id, file.index), file.progress.audio_s_total
            shown = cleaned(f"{job.name}: {file.name}" if len(job.files) > 1 else job.name)
            if at not in self._bars:
                self._bars[at] = self._progress.add_task(shown, total=None)
            self._progress.update(
                self._bars[at], completed=file.progress.audio_s_done, total=total_s
            )
            is_told = self._states.get(at) == file.state
            self._states[at] = file.state
            if not is_told and (file.error or self._progress.disable):
                why = f": {file.error.message}" if file.error else ""
                complain(f"{job.id} {shown}: {file.state}{why}")
