"""The object of a job that was refused goes, and that of a job that may be there stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.material.marked import marked_folder
from deployments.api.jobs.endpoints import JobFront
from deployments.api.jobs.form import JobForm
from deployments.api.uploads import Recording
from deployments.config import Limits
from deployments.core.errors import AsrError, Conflict, LimitExceeded, StorageFailed
from deployments.core.types import TranscribeOptions
from deployments.service_settings import Fetch, JobsSettings
from tests.api.senders import ENGINE

FORM = JobForm(
    recording=Recording(np.zeros(3, np.uint8)),
    file_name="a.wav",
    urls=(),
    options=TranscribeOptions(),
    name="",
    webhook=None,
    labels={},
    priority=0,
    expires_after_s=None,
    without_effect=(),
)


class Answering:
    """A handle whose `submit` answers, or raises what it is given."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.submit = SimpleNamespace(remote=self._submit)

    async def _submit(self, job: Any) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return {"id": job.id}, self._answer


def left_by(tmp_path: Path, answer: Any) -> int:
    """The objects that are left of a job to whose submission the deployment answers so."""

    async def run() -> int:
        objects = marked_folder(tmp_path)
        jobs = Answering(answer)
        front = JobFront(jobs, objects, ENGINE, Limits(), Fetch(), JobsSettings())
        with suppress(AsrError, RuntimeError, TimeoutError):
            await front.accept(FORM, "", None)
        return sum([len(page) async for page in objects.keys("jobs")])

    return asyncio.run(run())


@pytest.mark.parametrize("answer", [False, Conflict("other"), LimitExceeded("1 file", 60.0)])
def test_a_job_that_is_not_made_leaves_no_object(tmp_path: Path, answer: Any) -> None:
    assert left_by(tmp_path, answer) == 0


@pytest.mark.parametrize(
    "answer", [True, TimeoutError(), RuntimeError("the replica died"), StorageFailed(5.0)]
)
def test_a_job_that_may_be_there_keeps_its_object(tmp_path: Path, answer: Any) -> None:
    """Its answer may be lost after the job was written."""
    assert left_by(tmp_path, answer) == 1
