"""Which replica a handle sends a chunk to."""

from __future__ import annotations

import asyncio
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


def test_serve_still_has_what_is_overridden() -> None:
    assert "choose_replicas" in RequestRouter.__abstractmethods__
