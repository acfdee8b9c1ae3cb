"""How a handle chooses the replica of a pool: the one that the dispatcher named.

Serve's own choice, the less busy of two at random, now and then puts a chunk behind another while
a replica has nothing to do (DESIGN 3). The name travels as the call's multiplexed model id: by
that alone Serve tells the calls of one request apart, which share all other ids (Ray 2.60), and
would hand the replica found for one to the one that waits longest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray.serve.request_router import (
    FIFOMixin,
    MultiplexMixin,
    PendingRequest,
    RequestRouter,
    RunningReplica,
)

ANY = "any"  # as a name: the least busy one


class NamedReplica(FIFOMixin, MultiplexMixin, RequestRouter):
    """The replica with the actor id that is named; if it has gone or is full, another."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """First the one that is named, then the others; Serve takes the least busy of a rank."""
        if pending_request is None:
            return [candidate_replicas]
        # While all are full Serve would ask again without a pause.
        pending_request.routing_context.should_backoff = True
        return ranks(pending_request.metadata.multiplexed_model_id, candidate_replicas)


def ranks(name: str, replicas: Sequence[RunningReplica]) -> list[list[RunningReplica]]:
    """Serve's candidates, best first; equals in no order."""
    named = [replica for replica in replicas if replica.actor_id.hex() == name]
    others = [replica for replica in replicas if replica not in named]
    random.shuffle(others)
    return [rank for rank in (named, others) if rank]
