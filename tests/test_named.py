"""Which replica a handle sends a chunk to."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.request_router import RequestRouter

from deployments.named import ANY, NamedReplica, ranks


@dataclass(frozen=True)
class Replica:
    name: str

    @property
    def actor_id(self) -> Any:
        return SimpleNamespace(hex=lambda: self.name)


DONE_FOR_A_CALL = (
    "_cancel_routing_task_for_pending_request",
    "_record_queue_wait_time",
    "_remove_pending_request_from_indices",
)
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


def test_a_replica_goes_to_the_call_that_it_was_found_for_and_to_no_other() -> None:
    async def given() -> list[str | None]:
        calls = [SimpleNamespace(metadata=object(), future=asyncio.Future()) for _ in range(3)]
        router: Any = object.__new__(NamedReplica)
        router._pending_requests_to_fulfill = deque(calls)
        for private in DONE_FOR_A_CALL:
            setattr(router, private, lambda call: None)
        calls[2].future.cancel()

        for call, replica in ((calls[1], "b"), (calls[1], "again"), (calls[2], "late")):
            router._fulfill_next_pending_request(replica, call.metadata)
        return [call.future.result() if call.future.done() else None for call in calls[:2]]

    assert asyncio.run(given()) == [None, "b"]


def test_serve_still_has_what_is_overridden() -> None:
    assert "choose_replicas" in RequestRouter.__abstractmethods__
    for private in (
        *DONE_FOR_A_CALL,
        "_fulfill_next_pending_request",
        "_get_pending_request_matching_metadata",
    ):
        assert hasattr(NamedReplica.__mro__[1], private) or hasattr(RequestRouter, private)
