"""Calls over Serve handles: which replica is asked, and replicas that die, hang or fail."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from deployments.core.errors import Overloaded, TimedOut
from deployments.core.types import ChunkResult, Hints, PunctuationTask, Span
from deployments.request import calls
from deployments.request.calls import STAGE_ATTEMPTS, HandleCalls, ReplicaDied
from deployments.request.named import ANY

AUDIO = np.zeros(16_000, np.int16)
A, B, C = Span(0, 400), Span(400, 700), Span(800, 1000)
HANGS = asyncio.TimeoutError  # in a script: nothing comes for longer than the timeout


class Response:
    """A streaming response that follows a script: pieces, errors, and then the end."""

    def __init__(self, script: Sequence[Any]) -> None:
        self._script = list(script)
        self.cancelled = False

    async def __anext__(self) -> list[Span]:
        if not self._script:
            raise StopAsyncIteration
        step = self._script.pop(0)
        if step is HANGS:
            await asyncio.sleep(60)
        if isinstance(step, Exception):
            raise step
        return list(step)

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A VAD deployment whose scans follow one script each."""

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.responses = [Response(script) for script in scripts]
        self._left = list(self.responses)

    @property
    def detect(self) -> Handle:
        return self

    def options(self, *, stream: bool = False, _by_reference: bool = True) -> Handle:
        return self

    def remote(self, audio: Any) -> Response:
        return self._left.pop(0)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RESTART_PAUSE_S", 0.0)


def handle_calls(
    vad: Handle | None = None, pool: Any = None, punctuation: Any = None
) -> HandleCalls:
    nothing: Any = Handle()
    limits = {"VAD": 0.05, "recognition": 5.0}
    return HandleCalls(
        vad=vad,  # type: ignore[arg-type]
        pools={"T4": pool},
        punctuation=punctuation,
        dispatcher=nothing,
        stage_timeout_s=limits,
    )


async def _detect(vad: Handle, *, at_most: int = 100) -> list[Span]:
    spans: list[Span] = []
    async with aclosing(handle_calls(vad).detect(AUDIO)) as pieces:
        async for piece in pieces:
            spans += piece
            if len(spans) >= at_most:
                break
    return spans


def test_spans_come_in_order_and_a_finished_call_is_not_cancelled() -> None:
    vad = Handle([[A], [], [B, C]])

    assert asyncio.run(_detect(vad)) == [A, B, C]
    assert not vad.responses[0].cancelled


def test_a_scan_whose_replica_dies_is_repeated_and_no_span_comes_twice() -> None:
    vad = Handle([[A], [B], RayActorError()], [RayActorError()], [[A, B, C]])

    assert asyncio.run(_detect(vad)) == [A, B, C]


def test_replicas_that_keep_dying_are_given_up() -> None:
    vad = Handle(*[[[A], RayActorError()]] * STAGE_ATTEMPTS)

    with pytest.raises(Overloaded):
        asyncio.run(_detect(vad))


def test_a_replica_that_yields_nothing_for_too_long_is_a_timeout() -> None:
    vad = Handle([[A], HANGS])

    with pytest.raises(TimedOut) as caught:
        asyncio.run(_detect(vad))

    assert caught.value.stage == "VAD"
    assert vad.responses[0].cancelled


def test_a_scan_that_is_left_is_cancelled() -> None:
    vad = Handle([[A], [B], [C]])

    assert asyncio.run(_detect(vad, at_most=2)) == [A, B]
    assert vad.responses[0].cancelled


def grpc_error(code: StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details="why")


@pytest.mark.parametrize("code", [StatusCode.CANCELLED, StatusCode.UNAVAILABLE])
def test_a_broken_connection_is_a_replica_that_died(code: StatusCode) -> None:
    vad = Handle([[A], grpc_error(code)], [[A, B]])

    assert asyncio.run(_detect(vad)) == [A, B]


def test_another_error_of_grpc_is_told_and_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    vad = Handle([[A], grpc_error(StatusCode.RESOURCE_EXHAUSTED)], [[A, B]])

    with pytest.raises(AioRpcError):
        asyncio.run(_detect(vad))

    assert "VAD stage: StatusCode.RESOURCE_EXHAUSTED, why" in caplog.text


class Transports(Handle):
    """Records of each handle whether its calls pass arrays by reference."""

    def __init__(self, *scripts: Sequence[Any]) -> None:
        super().__init__(*scripts)
        self.by_reference: list[bool] = []

    def options(self, *, stream: bool = False, _by_reference: bool = True) -> Handle:
        self.by_reference.append(_by_reference)
        return self


@pytest.mark.parametrize(
    ("n_samples", "by_reference"), [(500_000, [False, True]), (500_001, [True])]
)
def test_only_a_large_array_passes_through_the_object_store(
    n_samples: int, by_reference: list[bool]
) -> None:
    vad = Transports([[A]])

    async def detect() -> None:
        async for _ in handle_calls(vad).detect(np.zeros(n_samples, np.int16)):
            pass

    asyncio.run(detect())

    assert vad.by_reference == by_reference


class PunctuationHandle:
    """A punctuation stage that tells how it was called."""

    def __init__(self, transport: str = "object store") -> None:
        self._transport = transport

    @property
    def punctuate(self) -> PunctuationHandle:
        return self

    def options(self, *, _by_reference: bool) -> PunctuationHandle:
        return PunctuationHandle("object store" if _by_reference else "gRPC")

    async def remote(self, task: PunctuationTask) -> str:
        return self._transport


@pytest.mark.parametrize(("n_words", "transport"), [(49_999, "gRPC"), (50_000, "object store")])
def test_only_a_long_text_is_punctuated_through_the_object_store(
    n_words: int, transport: str
) -> None:
    async def punctuate() -> object:
        task = PunctuationTask(words=("好",) * n_words, carry=("你",))
        return await handle_calls(punctuation=PunctuationHandle()).punctuate(task)

    assert asyncio.run(punctuate()) == transport


REPLICA = "0a" * 16  # Ray's id of an actor


class PoolHandle:
    """A pool's deployment with one answer to every chunk. Records the replicas asked for."""

    def __init__(self, outcome: ChunkResult | Exception) -> None:
        self._outcome = outcome
        self.asked_for: list[str] = []

    @property
    def transcribe(self) -> PoolHandle:
        return self

    def options(self, *, multiplexed_model_id: str = "", _by_reference: bool = True) -> PoolHandle:
        self.asked_for += [multiplexed_model_id] if multiplexed_model_id else []
        return self

    def remote(self, samples: Any, lengths: list[int], hints: Hints) -> asyncio.Future[ChunkResult]:
        answer: asyncio.Future[ChunkResult] = asyncio.get_running_loop().create_future()
        if isinstance(self._outcome, Exception):
            answer.set_exception(self._outcome)
        else:
            answer.set_result(self._outcome)
        return answer


def recognise(pool: PoolHandle, replica: str) -> ChunkResult:
    async def one() -> ChunkResult:
        calls = handle_calls(pool=pool)
        return await calls.recognise("T4", replica, AUDIO, [len(AUDIO)], Hints())

    return asyncio.run(one())


@pytest.mark.parametrize(("replica", "asked_for"), [(REPLICA, REPLICA), ("", ANY)])
def test_a_chunk_goes_to_the_replica_that_is_named_or_to_any(replica: str, asked_for: str) -> None:
    answer = ChunkResult([], padded_ms=0, busy_ms=0.0, engine="fake", replica=REPLICA)
    pool = PoolHandle(answer)

    assert recognise(pool, replica) is answer
    assert pool.asked_for == [asked_for]


def died() -> ActorDiedError:
    """The error that Ray raises when the process of an actor ends."""
    return ActorDiedError(ActorDiedErrorContext(actor_id=bytes.fromhex(REPLICA)))


@pytest.mark.parametrize(
    ("error", "replica"),
    [
        (died(), REPLICA),
        (RayActorError(), ""),
        (ActorUnavailableError("the network fails", bytes.fromhex(REPLICA)), ""),
    ],
    ids=["died", "unnamed", "unavailable"],
)
def test_an_error_names_a_replica_that_is_known_to_be_dead(error: Exception, replica: str) -> None:
    with pytest.raises(ReplicaDied) as caught:
        recognise(PoolHandle(error), "")

    assert caught.value.replica == replica


def test_the_death_of_a_replica_survives_pickling() -> None:
    error = ReplicaDied("A replica of the recognition stage died.", REPLICA)

    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), copy.replica) == (ReplicaDied, str(error), REPLICA)
