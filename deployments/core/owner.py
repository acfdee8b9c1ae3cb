"""One thread that owns a model, and the jobs that wait for it.

Models are not thread-safe and a device gains nothing from two threads, so each replica loads its
model and runs it on one owner thread. Loading there matters: libgomp stops spinning between
parallel regions once two threads of a process have used OpenMP on a small machine, and the same
network then takes 1.7 times as long (measured, 2 cores).

Jobs that wait together, from whatever request, run together where `fits` allows; otherwise first
come, first served. A job whose caller has gone never starts.

While a call runs, what would run next may be prepared (its audio copied to a GPU). A job that
fits still joins it, and it is prepared anew: leaving the job for the call after would save one
copy of few milliseconds and cost a whole batch. A full batch, whose copy is worth most, is joined
by nothing. No more than this one group is held, and it is let go as soon as it changes. What fails
in preparing costs that head start and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Model = TypeVar("Model")
Job = TypeVar("Job")
Answer = TypeVar("Answer")

logger = logging.getLogger("ray.serve")


def as_they_are(model: object, jobs: Sequence[Job]) -> Sequence[Job]:
    """Prepares nothing."""
    return jobs


class Owner(Generic[Model, Job, Answer]):
    """Runs `run(model, jobs) -> answers`, one call at a time, on the thread that loaded the model.

    An answer that is an exception is raised for its own job alone.
    """

    def __init__(
        self,
        load: Callable[[], Model],
        run: Callable[[Model, Sequence[Job]], Sequence[Answer | Exception]],
        fits: Callable[[Model, Sequence[Job], Job], bool] = lambda model, jobs, job: False,
        prepare: Callable[[Model, Sequence[Job]], Sequence[Job]] = as_they_are,
    ) -> None:
        """Returns once the model is loaded; raises what `load` raises.

        `prepare` is given what would run next while a call runs, and returns at once the same
        jobs for `run` to be given in their place, in the order of the calls. It is called on the
        event loop's thread.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.model = self._thread.submit(load).result()
        self._run = run
        self._fits = fits
        self._prepare = prepare
        self._waiting: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._in_call = False
        self._will_look = False
        self._told_of_preparing = False
        self._next_futures: list[asyncio.Future[Answer]] = []  # of the jobs that are prepared
        self._next_jobs: Sequence[Job] = ()

    async def submit(self, job: Job) -> Answer:
        """The job's answer; raises what `run` raised for the call that held it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        self._look_ahead_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            self._look_ahead_soon()
            raise

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while taken := self._take():
            jobs = self._prepared(taken)
            answers: Sequence[Answer | Exception]
            called = loop.run_in_executor(self._thread, self._run, self.model, jobs)
            del jobs  # what was prepared is the call's alone
            self._in_call = True
            self._look_ahead()
            try:
                answers = await called
            except Exception as error:  # whatever the engine raised belongs to its callers
                answers = [error] * len(taken)
            finally:
                self._in_call = False
            for (_, future), answer in zip(taken, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            # A caller that comes straight back stands beside those that wait, not behind them.
            await asyncio.sleep(0)
        self._next_futures, self._next_jobs = [], ()  # an idle owner holds nothing

    def _take(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        """The first job that still has a caller, and every later one that fits beside it."""
        taken, self._waiting = self._head()
        return taken

    def _head(
        self,
    ) -> tuple[list[tuple[Job, asyncio.Future[Answer]]], deque[tuple[Job, asyncio.Future[Answer]]]]:
        """What would be taken now, and what would be left."""
        taken: list[tuple[Job, asyncio.Future[Answer]]] = []
        left: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        for job, future in self._waiting:
            if future.done():
                continue
            if not taken or self._fits(self.model, [j for j, _ in taken], job):
                taken.append((job, future))
            else:
                left.append((job, future))
        return taken, left

    def _look_ahead_soon(self) -> None:
        """Once for all jobs that come or go in one turn of the loop."""
        if self._in_call and not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_soon(self._look_ahead)

    def _look_ahead(self) -> None:
        """Has prepared what would be taken now, while a call runs."""
        self._will_look = False
        if not self._in_call or self._prepare is as_they_are:
            return
        taken, _ = self._head()
        futures = [future for _, future in taken]
        if futures == self._next_futures:
            return
        self._next_futures, self._next_jobs = futures, ()  # the old group is let go first
        if taken:
            self._next_jobs = self._as_prepared([job for job, _ in taken])

    def _as_prepared(self, jobs: Sequence[Job]) -> Sequence[Job]:
        try:
            return self._prepare(self.model, jobs)
        except Exception:
            if not self._told_of_preparing:
                logger.exception("What waits could not be prepared; this is told once.")
            self._told_of_preparing = True
            return jobs

    def _prepared(self, taken: Sequence[tuple[Job, asyncio.Future[Answer]]]) -> Sequence[Job]:
        """The jobs, prepared: by now, or before what comes after them is."""
        futures, jobs = self._next_futures, self._next_jobs
        self._next_futures, self._next_jobs = [], ()
        if futures == [future for _, future in taken]:
            return jobs
        del jobs  # the old group is let go first
        return self._as_prepared([job for job, _ in taken])


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
