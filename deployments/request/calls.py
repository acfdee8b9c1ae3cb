"""The other deployments as plain async functions, with timeouts, and with Ray's errors translated.

The router sees no handle and no error of Ray. An `AsrError` of a replica arrives as itself, a dead
replica as `ReplicaDied`, and a call that met its timeout as `TimedOut`. Tests pass functions of
their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from grpc import StatusCode
from grpc.aio import AioRpcError
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from deployments.core.errors import AsrError, Overloaded, TimedOut
from deployments.core.scheduler.events import Finished, GiveUp, Lost, Order
from deployments.core.types import (
    Audio,
    ChunkResult,
    Hints,
    PunctuationStep,
    PunctuationTask,
    Span,
    Upload,
)
from deployments.request.named import ANY

logger = logging.getLogger("ray.serve")

DISPATCHER_TIMEOUT_S = 30.0
SNAPSHOT_TIMEOUT_S = 3.0
STAGE_ATTEMPTS = 3  # a recording that kills three replicas is not tried on a fourth
DISPATCHER_ATTEMPTS = 20  # no audio can kill the dispatcher, and it is back within seconds
RESTART_PAUSE_S = 0.5
BUSY_RETRY_S = 5.0
FULL_PAUSE_S = 0.2
SMALL_BYTES = 1_000_000  # of an array in a call: 30 s of audio
SMALL_WORDS = 50_000  # of a punctuation task: the answer has 1 to 2 MB
BROKEN = (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)  # by the other end: it is gone


class ReplicaDied(AsrError):
    """The replica that had the call is gone. The call may have run or not."""

    def __init__(self, message: str, replica: str = "") -> None:
        super().__init__(message, replica)
        self.replica = replica  # its name in results; empty: not known, or it may still be alive

    def __str__(self) -> str:
        return str(self.args[0])


class Calls(Protocol):
    """The calls that the router makes to the rest of the graph."""

    def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]: ...
    async def punctuate(self, task: PunctuationTask) -> PunctuationStep: ...
    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult: ...
    async def submit(
        self,
        request: str,
        lengths_ms: Mapping[int, int],
        *,
        again: bool,
        coming_ms: int,
        background: bool,
    ) -> tuple[bool, list[Order | GiveUp]]: ...
    async def orders(self, request: str) -> list[Order | GiveUp] | None: ...
    async def finished(self, report: Finished) -> None: ...
    async def lost(self, report: Lost) -> bool: ...
    async def cancel(self, request: str, reports: Sequence[Finished]) -> None: ...


class HandleCalls:
    """`Calls` over Serve handles."""

    def __init__(
        self,
        *,
        vad: DeploymentHandle[Any],
        pools: Mapping[str, DeploymentHandle[Any]],
        punctuation: DeploymentHandle[Any] | None,
        dispatcher: DeploymentHandle[Any],
        stage_timeout_s: Mapping[str, float],
    ) -> None:
        self._vad, self._pools = vad, pools
        self._punctuation, self._long_punctuation = directly(punctuation), punctuation
        self._dispatcher = directly(dispatcher)
        self._timeout_s = stage_timeout_s

    async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
        """The spans of speech while the recording is read, in time order, each span once.

        If a replica dies, another reads the recording again, and spans that were yielded already
        are skipped. Raises Overloaded if replicas keep dying. Closing the generator ends the scan.
        """
        vad = for_arrays(self._vad, audio)
        remote = vad.options(stream=True).detect.remote
        told_ms = 0  # spans up to here have been yielded
        for _ in range(STAGE_ATTEMPTS):
            pieces = stream(remote, audio, stage="VAD", timeout_s=self._timeout_s["VAD"])
            try:
                async with aclosing(pieces):
                    async for spans in pieces:
                        fresh = [
                            Span(max(span.start_ms, told_ms), span.end_ms)
                            for span in spans
                            if span.end_ms > told_ms
                        ]
                        yield fresh
                        told_ms = fresh[-1].end_ms if fresh else told_ms
                return
            except ReplicaDied:
                await asyncio.sleep(RESTART_PAUSE_S)
        raise Overloaded(BUSY_RETRY_S)

    async def punctuate(self, task: PunctuationTask) -> PunctuationStep:
        is_small = len(task.carry) + len(task.words) <= SMALL_WORDS
        handle = self._punctuation if is_small else self._long_punctuation
        assert handle is not None
        remote = handle.punctuate.remote
        step: PunctuationStep = await self._again(remote, "punctuation", task)
        return step

    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult:
        """The result of the named replica, or of another of the pool if that one cannot take it.

        A lost chunk is not sent again here, because the dispatcher decides where it goes. If the
        queue of the pool is full, this waits, because the dispatcher counts the chunk as
        outstanding.
        """
        handle = for_arrays(self._pools[pool], samples)
        handle = handle.options(multiplexed_model_id=replica or ANY)
        remote = handle.transcribe.remote
        timeout_s = self._timeout_s["recognition"]
        deadline_s = time.monotonic() + timeout_s
        arguments = (samples, list(lengths), hints)
        while True:
            try:
                result: ChunkResult = await call(
                    remote, *arguments, stage="recognition", timeout_s=timeout_s
                )
                return result
            except Overloaded:
                if time.monotonic() > deadline_s:
                    raise TimedOut("recognition", timeout_s) from None
            await asyncio.sleep(FULL_PAUSE_S)

    async def submit(
        self,
        request: str,
        lengths_ms: Mapping[int, int],
        *,
        again: bool,
        coming_ms: int,
        background: bool,
    ) -> tuple[bool, list[Order | GiveUp]]:
        """Whether the dispatcher knew the request already, and its new orders.

        If the answer is lost on its way, its orders are lost, because the call that is tried again
        does not give them a second time. The dispatcher takes their chunks for late, and an idle
        replica gets copies of them (DESIGN, Late chunks). Raises Overloaded if the dispatcher
        refuses the request.
        """
        remote = self._dispatcher.submit.remote
        arguments = (request, dict(lengths_ms), again, coming_ms, background)
        known, orders = await self._again(remote, "dispatcher", *arguments)
        return known, orders

    async def orders(self, request: str) -> list[Order | GiveUp] | None:
        orders: list[Order | GiveUp] | None = await self._again(
            self._dispatcher.orders.remote, "dispatcher", request
        )
        return orders

    async def finished(self, report: Finished) -> None:
        await self._again(self._dispatcher.finished.remote, "dispatcher", report)

    async def lost(self, report: Lost) -> bool:
        """Whether the dispatcher knew the order and will place its segments again."""
        return bool(await self._again(self._dispatcher.lost.remote, "dispatcher", report))

    async def cancel(self, request: str, reports: Sequence[Finished]) -> None:
        """Ends the request. `reports` are of its last chunks."""
        remote = self._dispatcher.cancel.remote
        await self._again(remote, "dispatcher", request, list(reports))

    async def snapshot(self) -> dict[str, Any]:
        """Running replicas of every stage and pool, and the pools' load."""
        remote = self._dispatcher.snapshot.remote
        found: dict[str, Any] = await call(remote, stage="dispatcher", timeout_s=SNAPSHOT_TIMEOUT_S)
        return found

    async def _again(self, remote: Callable[..., Any], stage: str, *args: object) -> Any:
        """The result of the call, which is tried again while a dead replica is being replaced.

        Raises Overloaded if replicas keep dying.
        """
        timeout_s = self._timeout_s.get(stage, DISPATCHER_TIMEOUT_S)
        for _ in range(DISPATCHER_ATTEMPTS if stage == "dispatcher" else STAGE_ATTEMPTS):
            try:
                return await call(remote, *args, stage=stage, timeout_s=timeout_s)
            except ReplicaDied:
                await asyncio.sleep(RESTART_PAUSE_S)
        raise Overloaded(BUSY_RETRY_S)


def directly(handle: Any) -> Any:
    """The handle for calls that go from process to process by gRPC, past Ray's object store.

    A call through the object store costs twice the CPU time. gRPC takes 4 MiB in a message, and
    copies them. Serve has no public name for this choice (Ray 2.60).
    """
    return None if handle is None else handle.options(_by_reference=False)


def for_arrays(handle: Any, array: Audio | Upload) -> Any:
    """The handle for a call with this array, which is mapped and not copied where it is large."""
    return directly(handle) if array.nbytes <= SMALL_BYTES else handle


async def call(remote: Callable[..., Any], *args: object, stage: str, timeout_s: float) -> Any:
    """The result of one handle call. On timeout or cancellation the remote call is cancelled.

    Raises TimedOut, ReplicaDied, or the AsrError that the replica raised.
    """
    response = remote(*args)
    try:
        with our_errors(stage, timeout_s):
            return await asyncio.wait_for(response, timeout_s)
    except (TimedOut, asyncio.CancelledError):
        response.cancel()
        raise


async def stream(
    remote: Callable[..., Any], *args: object, stage: str, timeout_s: float
) -> AsyncGenerator[Any]:
    """The items of a streaming handle call. `timeout_s` is for each item.

    Closing this before its end cancels the remote call. Raises as `call`.
    """
    response, ended = remote(*args), False
    try:
        while True:
            with our_errors(stage, timeout_s):
                try:
                    item = await asyncio.wait_for(anext(response), timeout_s)
                except StopAsyncIteration:
                    ended = True
                    return
            yield item
    finally:
        if not ended:
            response.cancel()


def broke(error: Exception) -> bool:
    """Whether gRPC lost the connection. Its other errors, as of a message too large, are faults."""
    return isinstance(error, AioRpcError) and error.code() in BROKEN


@contextmanager
def our_errors(stage: str, timeout_s: float) -> Iterator[None]:
    """Turns a timeout and the errors of Ray into errors that the router knows."""
    try:
        yield
    except TimeoutError:
        raise TimedOut(stage, timeout_s) from None
    except BackPressureError:
        raise Overloaded(BUSY_RETRY_S) from None
    except AioRpcError as error:
        if not broke(error):
            logger.error("A call to the %s stage: %s, %s", stage, error.code(), error.details())
            raise
        raise ReplicaDied(f"The connection to a replica of the {stage} stage broke.") from None
    except RayActorError as error:
        message = f"A replica of the {stage} stage died."
        lives = isinstance(error, ActorUnavailableError)  # it may: only its node cannot be reached
        raise ReplicaDied(message, "" if lives else error.actor_id or "") from None
    except RayTaskError as error:
        if isinstance(error.cause, AsrError):
            raise error.cause from None
        raise
