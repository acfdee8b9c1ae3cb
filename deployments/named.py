"""How a handle chooses the replica of a pool: the one that the dispatcher named.

Serve's own choice, the less busy of two at random, now and then puts a chunk behind another while
a replica has nothing to do (DESIGN 3). The name travels as the call's multiplexed model id.

A replica that was found for a call is given to that call and to no other. Serve's routers look the
call up by ids, which the calls of one request share (Ray 2.60): the first of them alone is in the
index, the replica found for another one would go to it or to whoever waits longest, and an index
by name keeps the last call of every name, with its audio.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray.serve._private.common import RequestMetadata
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

ANY = "any"  # as a name: the least busy one


class NamedReplica(RequestRouter):
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

    def _add_pending_request_to_indices(self, pending_request: PendingRequest) -> None:
        """Keeps no index: few calls wait at a time, and what waits is in Serve's queue."""

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: RequestMetadata | None = None
    ) -> PendingRequest | None:
        """The very call that Serve found a replica for; None if it was given up meanwhile."""
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None


def ranks(name: str, replicas: Sequence[RunningReplica]) -> list[list[RunningReplica]]:
    """Serve's candidates, best first; equals in no order."""
    named = [replica for replica in replicas if replica.actor_id.hex() == name]
    others = [replica for replica in replicas if replica not in named]
    random.shuffle(others)
    return [rank for rank in (named, others) if rank]
