"""One thread that owns a model, and the queue of jobs for it.

Models are not thread-safe, and a device gains nothing from two threads. So each replica loads its
model and runs it on one owner thread. Loading on that thread matters too. Once two threads of a
process have used OpenMP on a small machine, libgomp stops spinning between parallel regions. The
same network then takes 1.7 times as long (measured, 2 cores).

Queued jobs run together where `fits` allows, whichever request they come from. Otherwise the
order is first come, first served. A job whose caller has gone never starts.

While a call runs, the group of jobs that comes next may be prepared: its audio is copied to a GPU.
A job that fits still joins the group, which is then prepared anew. Leaving the job for a later
call would save one copy of a few milliseconds but cost a whole batch. A full batch, whose copy is
worth most, is never joined. Only one group is prepared at a time, and it is dropped as soon as it
changes. A failure while preparing costs the head start and nothing else.
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
    """The jobs, not prepared."""
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
        """Returns once the model is loaded. Raises what `load` raises.

        While a call runs, `prepare` gets the jobs that come next, in the order of the calls. It
        returns at once, with the same jobs in a form that `run` takes in their place. It is called
        on the thread of the event loop.
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
        """The job's answer. Raises what `run` raised for the call that held the job."""
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
            del jobs  # only the call may keep the prepared jobs alive
            self._in_call = True
            self._look_ahead()
            try:
                answers = await called
            except Exception as error:  # an error of the engine is for the callers of its jobs
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
            # A caller that submits again at once may share the next call.
            await asyncio.sleep(0)
        self._next_futures, self._next_jobs = [], ()  # an idle owner keeps no job alive

    def _take(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        """Removes the next group: the first job that has a caller, and all later ones that fit."""
        taken, self._waiting = self._head()
        return taken

    def _head(
        self,
    ) -> tuple[list[tuple[Job, asyncio.Future[Answer]]], deque[tuple[Job, asyncio.Future[Answer]]]]:
        """The group that would be taken now, and the jobs that would be left."""
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
        """Looks ahead once for all jobs that come or go in one turn of the event loop."""
        if self._in_call and not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_soon(self._look_ahead)

    def _look_ahead(self) -> None:
        """Prepares the next group while a call runs."""
        self._will_look = False
        if not self._in_call or self._prepare is as_they_are:
            return
        taken, _ = self._head()
        futures = [future for _, future in taken]
        if futures == self._next_futures:
            return
        self._next_futures, self._next_jobs = futures, ()  # drops the old group first
        if taken:
            self._next_jobs = self._as_prepared([job for job, _ in taken])

    def _as_prepared(self, jobs: Sequence[Job]) -> Sequence[Job]:
        try:
            return self._prepare(self.model, jobs)
        except Exception:
            if not self._told_of_preparing:
                logger.exception("The next jobs could not be prepared; this is logged once.")
            self._told_of_preparing = True
            return jobs

    def _prepared(self, taken: Sequence[tuple[Job, asyncio.Future[Answer]]]) -> Sequence[Job]:
        """The jobs in their prepared form; prepared now, if they have not been."""
        futures, jobs = self._next_futures, self._next_jobs
        self._next_futures, self._next_jobs = [], ()
        if futures == [future for _, future in taken]:
            return jobs
        del jobs  # drops the old group first
        return self._as_prepared([job for job, _ in taken])


def or_each_alone(
    run: Callable[[Model, Sequence[Job]], Sequence[Answer]],
) -> Callable[[Model, Sequence[Job]], list[Answer | Exception]]:
    """`run`, but if it fails on several jobs, each runs alone: one bad job costs no other."""

    def isolating(model: Model, jobs: Sequence[Job]) -> list[Answer | Exception]:
        try:
            return list(run(model, jobs))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
        return [answer for job in jobs for answer in isolating(model, [job])]

    return isolating
