"""The other deployments as plain async functions: time-outs in, Ray's errors translated out.

The router sees no handle and no Ray error: a replica's own `AsrError` arrives as itself, a dead
replica as `ReplicaDied`, a late one as `TimedOut`. Tests pass functions of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from deployments.core.errors import AsrError, Overloaded, TimedOut
from deployments.core.events import Finished, GiveUp, Lost, Order
from deployments.core.types import (
    Audio,
    ChunkResult,
    Hints,
    PunctuationStep,
    PunctuationTask,
    Span,
)
from deployments.named import ANY

DISPATCHER_TIMEOUT_S = 30.0
SNAPSHOT_TIMEOUT_S = 3.0
STAGE_ATTEMPTS = 3  # a recording that kills three replicas is not tried on a fourth
DISPATCHER_ATTEMPTS = 20  # it holds no audio that could kill it; it is back within seconds
RESTART_PAUSE_S = 0.5
BUSY_RETRY_S = 5.0
FULL_PAUSE_S = 0.2


class ReplicaDied(AsrError):
    """The replica that had the call is gone; the call may have run or not."""

    def __init__(self, message: str, replica: str = "") -> None:
        super().__init__(message, replica)
        self.replica = replica  # as its results name it; empty: not known, or it may yet live

    def __str__(self) -> str:
        return str(self.args[0])


class Calls(Protocol):
    """What the router needs of the rest of the graph."""

    def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]: ...
    async def punctuate(self, task: PunctuationTask) -> PunctuationStep: ...
    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult: ...
    async def submit(
        self, request: str, lengths_ms: Mapping[int, int], *, again: bool, coming_ms: int
    ) -> bool: ...
    async def orders(self, request: str) -> list[Order | GiveUp] | None: ...
    async def finished(self, report: Finished) -> None: ...
    async def lost(self, report: Lost) -> bool: ...
    async def cancel(self, request: str) -> None: ...


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
        self._punctuation, self._dispatcher = punctuation, dispatcher
        self._timeout_s = stage_timeout_s

    async def detect(self, audio: Audio) -> AsyncGenerator[list[Span]]:
        """Spans while the recording is read, in time order; every one once.

        Where a replica dies the recording is read again, and what was given out is left out.
        Raises Overloaded where replicas keep dying. Closing it ends the scan.
        """
        remote = self._vad.options(stream=True).detect.remote
        told_ms = 0  # up to here
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
        assert self._punctuation is not None
        remote = self._punctuation.punctuate.remote
        step: PunctuationStep = await self._again(remote, "punctuation", task)
        return step

    async def recognise(
        self, pool: str, replica: str, samples: Audio, lengths: Sequence[int], hints: Hints
    ) -> ChunkResult:
        """By the replica of that name where it can take it, else by any of the pool.

        Not tried again here: the dispatcher decides where a lost chunk goes.

        Where the pool's queue is full it waits: the dispatcher counts the chunk as under way.
        """
        handle = self._pools[pool].options(multiplexed_model_id=replica or ANY)
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
        self, request: str, lengths_ms: Mapping[int, int], *, again: bool, coming_ms: int
    ) -> bool:
        """Whether the dispatcher knew the request already. Raises Overloaded where it refuses."""
        remote = self._dispatcher.submit.remote
        arguments = (request, dict(lengths_ms), again, coming_ms)
        return bool(await self._again(remote, "dispatcher", *arguments))

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

    async def cancel(self, request: str) -> None:
        await self._again(self._dispatcher.cancel.remote, "dispatcher", request)

    async def snapshot(self) -> dict[str, Any]:
        """Running replicas of every stage and pool, and the pools' load."""
        remote = self._dispatcher.snapshot.remote
        found: dict[str, Any] = await call(remote, stage="dispatcher", timeout_s=SNAPSHOT_TIMEOUT_S)
        return found

    async def _again(self, remote: Callable[..., Any], stage: str, *args: object) -> Any:
        """The call's result, tried again while the stage's replica is being replaced.

        Raises Overloaded where its replicas keep dying.
        """
        timeout_s = self._timeout_s.get(stage, DISPATCHER_TIMEOUT_S)
        for _ in range(DISPATCHER_ATTEMPTS if stage == "dispatcher" else STAGE_ATTEMPTS):
            try:
                return await call(remote, *args, stage=stage, timeout_s=timeout_s)
            except ReplicaDied:
                await asyncio.sleep(RESTART_PAUSE_S)
        raise Overloaded(BUSY_RETRY_S)


async def call(remote: Callable[..., Any], *args: object, stage: str, timeout_s: float) -> Any:
    """The result of one handle call; on time-out or cancellation the remote call is cancelled.

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
    """What a streaming handle call yields; `timeout_s` is for each item.

    Left before its end it cancels the remote call. Raises as `call`.
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


@contextmanager
def our_errors(stage: str, timeout_s: float) -> Iterator[None]:
    """Turns a time-out and Ray's errors into those that the router knows."""
    try:
        yield
    except TimeoutError:
        raise TimedOut(stage, timeout_s) from None
    except BackPressureError:
        raise Overloaded(BUSY_RETRY_S) from None
    except RayActorError as error:
        message = f"A replica of the {stage} stage died."
        lives = isinstance(error, ActorUnavailableError)  # perhaps: its node cannot be reached
        raise ReplicaDied(message, "" if lives else error.actor_id or "") from None
    except RayTaskError as error:
        if isinstance(error.cause, AsrError):
            raise error.cause from None
        raise
