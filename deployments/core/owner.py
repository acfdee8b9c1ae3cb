"""One thread that owns a model, and the jobs that wait for it.

Models are not thread-safe and a device gains nothing from two threads, so each replica loads its
model and runs it on one owner thread. Loading there matters: libgomp stops spinning between
parallel regions once two threads of a process have used OpenMP on a small machine, and the same
network then takes 1.7 times as long (measured, 2 cores).

Jobs that wait together, from whatever request, run together where `fits` allows; otherwise first
come, first served. A job whose caller has gone never starts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Model = TypeVar("Model")
Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Owner(Generic[Model, Job, Answer]):
    """Runs `run(model, jobs) -> answers`, one call at a time, on the thread that loaded the model.

    An answer that is an exception is raised for its own job alone.
    """

    def __init__(
        self,
        load: Callable[[], Model],
        run: Callable[[Model, Sequence[Job]], Sequence[Answer | Exception]],
        fits: Callable[[Model, Sequence[Job], Job], bool] = lambda model, jobs, job: False,
    ) -> None:
        """Returns once the model is loaded; raises what `load` raises."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.model = self._thread.submit(load).result()
        self._run = run
        self._fits = fits
        self._waiting: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def submit(self, job: Job) -> Answer:
        """The job's answer; raises what `run` raised for the call that held it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while taken := self._take():
            jobs = [job for job, _ in taken]
            answers: Sequence[Answer | Exception]
            try:
                answers = await loop.run_in_executor(self._thread, self._run, self.model, jobs)
            except Exception as error:  # whatever the engine raised belongs to its callers
                answers = [error] * len(jobs)
            for (_, future), answer in zip(taken, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            # A caller that comes straight back stands beside those that wait, not behind them.
            await asyncio.sleep(0)

    def _take(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        """The first job that still has a caller, and every later one that fits beside it."""
        taken: list[tuple[Job, asyncio.Future[Answer]]] = []
        left: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        while self._waiting:
            job, future = self._waiting.popleft()
            if future.done():
                continue
            if not taken or self._fits(self.model, [j for j, _ in taken], job):
                taken.append((job, future))
            else:
                left.append((job, future))
        self._waiting = left
        return taken


def or_each_alone(
    run: Callable[[Model, Sequence[Job]], Sequence[Answer]],
) -> Callable[[Model, Sequence[Job]], list[Answer | Exception]]:
    """`run`, and where it fails on several jobs each of them alone: one costs no other."""

    def isolating(model: Model, jobs: Sequence[Job]) -> list[Answer | Exception]:
        try:
            return list(run(model, jobs))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
        return [answer for job in jobs for answer in isolating(model, [job])]

    return isolating
