"""A handle sends a chunk to the replica that the call names."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest, RequestRouter

from deployments.request.named import ANY, NamedReplica, ranks


@dataclass(frozen=True)
class Replica:
    name: str

    @property
    def actor_id(self) -> Any:
        return SimpleNamespace(hex=lambda: self.name)


REPLICAS: Any = [Replica("a"), Replica("b"), Replica("c")]


def test_the_named_replica_comes_first_and_the_others_after_it() -> None:
    first, rest = ranks("b", REPLICAS)

    assert first == [REPLICAS[1]]
    assert {replica.name for replica in rest} == {"a", "c"}


@pytest.mark.parametrize("name", ["gone", ANY])
def test_without_the_named_replica_all_are_equal(name: str) -> None:
    (rank,) = ranks(name, REPLICAS)

    assert {replica.name for replica in rank} == {"a", "b", "c"}


def test_serve_is_told_to_pause_while_all_are_full() -> None:
    context = SimpleNamespace(should_backoff=False)
    metadata = SimpleNamespace(multiplexed_model_id="c")
    pending: Any = SimpleNamespace(metadata=metadata, routing_context=context)
    router: Any = object.__new__(NamedReplica)

    chosen = asyncio.run(router.choose_replicas(REPLICAS, pending))

    assert context.should_backoff
    assert chosen[0] == [REPLICAS[2]]


class Probed:
    """A replica as a router sees it, which answers with the length of its queue after `slow_s`."""

    max_ongoing_requests = 8
    multiplexed_model_ids: frozenset[str] = frozenset()

    def __init__(self, name: str, slow_s: float) -> None:
        self.name, self._slow_s = name, slow_s
        self.actor_id = SimpleNamespace(hex=lambda: name)
        self.replica_id = ReplicaID(name, DeploymentID("Asr-T4"))

    async def get_queue_len(self, *, deadline_s: float) -> int:
        await asyncio.sleep(self._slow_s)
        return 0


def new_router(*replicas: Any) -> NamedReplica:
    router = NamedReplica(
        DeploymentID("Asr-T4"), DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True
    )
    router.queue_len_response_deadline_s = router.max_queue_len_response_deadline_s = 30.0
    router.update_replicas(list(replicas))
    return router


def call_for(name: str) -> PendingRequest:
    """A call of the one request in all these tests."""
    ids = {"request_id": "r", "internal_request_id": "r"}
    metadata = RequestMetadata(**ids, multiplexed_model_id=name)  # type: ignore[arg-type]
    return PendingRequest(args=[np.zeros(16_000, np.int16)], kwargs={}, metadata=metadata)


async def routed(router: NamedReplica, call: PendingRequest) -> str:
    replica: Any = await router._choose_replica_for_request(call)
    return str(replica.name)


async def settled(router: NamedReplica) -> None:
    """Returns once no call is being routed."""
    while router._routing_tasks:  # noqa: ASYNC110 - Serve sets no event
        await asyncio.sleep(0)


@pytest.mark.parametrize("slow_s", [(0.05, 0.0), (0.0, 0.05), (0.0, 0.0)])
def test_every_call_of_one_request_gets_the_replica_that_it_names(
    slow_s: tuple[float, float],
) -> None:
    async def two_at_once() -> list[str]:
        router = new_router(Probed("a", slow_s[0]), Probed("b", slow_s[1]))
        return await asyncio.gather(*(routed(router, call_for(name)) for name in ("a", "b")))

    assert asyncio.run(two_at_once()) == ["a", "b"]


def test_calls_of_one_name_are_all_sent() -> None:
    async def many() -> list[str]:
        router = new_router(Probed("a", 0.01), Probed("b", 0.0))
        names = ["a", "a", "b", "a", ANY, "b"]
        return await asyncio.gather(*(routed(router, call_for(name)) for name in names))

    found = asyncio.run(many())

    assert [*found[:4], found[5]] == ["a", "a", "b", "a", "b"]


def found_for_given_up(router: NamedReplica, call: PendingRequest) -> None:
    """Serve finds its first replica for this call; it has no public way to say so."""
    router._pending_requests_to_fulfill.append(call)
    first: Any = router._replicas_list[0]
    router._fulfill_next_pending_request(first, call.metadata)


def test_the_replica_of_a_call_that_was_given_up_goes_to_no_other() -> None:
    async def first_gives_up() -> tuple[bool, str]:
        router = new_router(Probed("a", 0.0), Probed("b", 0.05))
        given_up, waits = call_for("a"), call_for("b")
        waiting = asyncio.create_task(routed(router, waits))
        await asyncio.sleep(0)
        given_up.future.cancel()
        found_for_given_up(router, given_up)
        return waits.future.done(), await waiting

    assert asyncio.run(first_gives_up()) == (False, "b")


def test_a_router_keeps_no_call_that_was_sent_or_given_up() -> None:
    async def all_sent_but_one() -> list[weakref.ref[PendingRequest]]:
        router = new_router(Probed("a", 0.0), Probed("b", 0.2))
        calls = [call_for(name) for name in ("a", "b", "a", "gone", ANY, "b")]
        told = [weakref.ref(call) for call in calls]
        sending = [asyncio.create_task(routed(router, call)) for call in calls]
        del calls
        await asyncio.sleep(0.01)
        sending[1].cancel()
        await asyncio.wait(sending)
        del sending
        await settled(router)
        gc.collect()
        assert router.num_pending_requests == 0
        return [ref for ref in told if ref() is not None]

    assert asyncio.run(all_sent_but_one()) == []


@pytest.mark.parametrize(
    "name",
    [
        "choose_replicas",
        "_add_pending_request_to_indices",
        "_get_pending_request_matching_internal_request_id",
    ],
)
def test_serve_still_has_what_is_overridden(name: str) -> None:
    assert name in vars(NamedReplica)
    assert name in vars(RequestRouter)
