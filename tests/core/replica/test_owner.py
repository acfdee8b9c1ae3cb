"""Jobs run on one thread, in order, together where they fit, and never for a caller that left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from deployments.core.owner import Owner, or_each_alone


class Recorder:
    """Runs no job before its gate opens, and records the batches and threads."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()

    def run(self, jobs: Sequence[int]) -> list[int]:
        self.gate.wait(5)
        self.batches.append(list(jobs))
        self.threads.add(threading.get_ident())
        if 13 in jobs:
            raise ValueError("unlucky")
        return [10 * job for job in jobs]


async def _submitted(owner: Owner[int, int], jobs: Sequence[int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(owner.submit(job)) for job in jobs]
    await asyncio.sleep(0.01)
    return tasks


def test_jobs_that_wait_together_run_together_up_to_what_fits() -> None:
    recorder = Recorder()

    async def scenario() -> list[int]:
        owner = Owner[Recorder, int, int](
            lambda: recorder, Recorder.run, lambda _, taken, job: sum(taken) + job <= 6
        )
        tasks = await _submitted(owner, [1, 2, 3, 4, 1])
        recorder.gate.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(scenario())

    assert answers == [10, 20, 30, 40, 10]
    assert recorder.batches == [[1, 2, 3], [4, 1]]
    assert len(recorder.threads) == 1


def test_a_job_whose_caller_has_gone_never_starts() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        owner = Owner[Recorder, int, int](lambda: recorder, Recorder.run)
        tasks = await _submitted(owner, [1, 2, 3])
        tasks[1].cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())

    assert recorder.batches == [[1], [3]]


def test_an_error_reaches_its_own_callers_and_the_next_job_runs() -> None:
    recorder = Recorder()
    recorder.gate.set()

    async def scenario() -> int:
        owner = Owner[Recorder, int, int](lambda: recorder, Recorder.run)
        with pytest.raises(ValueError, match="unlucky"):
            await owner.submit(13)
        return await owner.submit(4)

    assert asyncio.run(scenario()) == 40


def test_the_model_is_loaded_on_the_thread_that_runs_it() -> None:
    def load() -> Recorder:
        recorder = Recorder()
        recorder.gate.set()
        recorder.threads.add(threading.get_ident())
        return recorder

    async def scenario() -> set[int]:
        owner = Owner[Recorder, int, int](load, Recorder.run)
        await owner.submit(1)
        return owner.model.threads

    threads = asyncio.run(scenario())

    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_an_answer_that_is_an_error_is_raised_for_its_own_job_alone() -> None:
    def odd_ones(_: None, jobs: Sequence[int]) -> list[int | Exception]:
        return [ValueError("even") if job % 2 == 0 else job for job in jobs]

    async def scenario() -> list[int | BaseException]:
        owner = Owner[None, int, int](lambda: None, odd_ones, lambda _, taken, job: True)
        return await asyncio.gather(*map(owner.submit, [1, 2, 3]), return_exceptions=True)

    one, two, three = asyncio.run(scenario())

    assert (one, three) == (1, 3)
    assert isinstance(two, ValueError)


async def submit_three_times(owner: Owner[Recorder, int, int], job: int) -> None:
    for _ in range(3):
        await owner.submit(job)


def test_callers_that_submit_again_at_once_run_together() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        owner = Owner[Recorder, int, int](
            lambda: recorder, Recorder.run, lambda _, taken, job: True
        )

        tasks = [asyncio.create_task(submit_three_times(owner, job)) for job in (1, 2)]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())

    assert recorder.batches == [[1, 2]] * 3


def test_a_caller_that_submits_again_at_once_runs_beside_a_waiting_job() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        owner = Owner[Recorder, int, int](
            lambda: recorder, Recorder.run, lambda _, taken, job: len(taken) < 2
        )
        tasks = [asyncio.create_task(submit_three_times(owner, job)) for job in (1, 2)]
        waiting = await _submitted(owner, [3])
        recorder.gate.set()
        await asyncio.gather(*tasks, *waiting)

    asyncio.run(scenario())

    assert recorder.batches == [[1, 2], [3, 1], [2, 1], [2]]


def test_a_job_that_fails_costs_no_other_and_each_is_tried_alone() -> None:
    recorder = Recorder()
    recorder.gate.set()

    first, failed, last = or_each_alone(Recorder.run)(recorder, [1, 13, 5])

    assert (first, last) == (10, 50)
    assert isinstance(failed, ValueError)
