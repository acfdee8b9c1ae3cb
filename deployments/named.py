"""How a handle chooses the replica of a pool: the one that the dispatcher named.

Serve's own choice, the less busy of two at random, now and then puts a chunk behind another while
a replica has nothing to do (DESIGN 3). The name travels as the call's multiplexed model id.

All calls of one request share Serve's id of it, by which Serve indexes what waits for a replica
(Ray 2.60): it would hand the replica found for one call to the one that waits longest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray.serve._private.common import RequestMetadata
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

    def _get_pending_request_matching_metadata(
        self, request_metadata: RequestMetadata | None = None
    ) -> PendingRequest | None:
        """The very call that a replica was looked for, if it still waits."""
        waiting = (call for call in self._pending_requests_to_fulfill if not call.future.done())
        return next((call for call in waiting if call.metadata is request_metadata), None)

    def _fulfill_next_pending_request(
        self, replica: RunningReplica, request_metadata: RequestMetadata | None = None
    ) -> None:
        """Gives the replica to the call that it was looked for, to no other if that has gone."""
        if self._get_pending_request_matching_metadata(request_metadata) is not None:
            super()._fulfill_next_pending_request(replica, request_metadata)


def ranks(name: str, replicas: Sequence[RunningReplica]) -> list[list[RunningReplica]]:
    """Serve's candidates, best first; equals in no order."""
    named = [replica for replica in replicas if replica.actor_id.hex() == name]
    others = [replica for replica in replicas if replica not in named]
    random.shuffle(others)
    return [rank for rank in (named, others) if rank]
