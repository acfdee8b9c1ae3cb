"""Sends a call to the replica that the dispatcher named (DESIGN, Named replicas).

Serve's own choice is the less busy of two random replicas. Now and then it puts a chunk behind
another one while a third replica is idle. The name is sent as the multiplexed model id of the call.

A replica that was found for a call is given to exactly that call. Serve's routers look calls up by
ids, which the calls of one request share (Ray 2.60). Their index holds only the first of these
calls, so a replica found for another call would go to the first one or to the oldest. An index by
name would keep the last call of every name alive, with its audio.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ray.serve._private.common import RequestMetadata
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

ANY = "any"  # a name that stands for the least busy replica


class NamedReplica(RequestRouter):
    """Chooses the replica with the named actor id, or another if that one is gone or full."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """First the named replica, then the others. Serve takes the least busy of each rank."""
        if pending_request is None:
            return [candidate_replicas]
        # Otherwise Serve would ask again without a pause while all replicas are full.
        pending_request.routing_context.should_backoff = True
        return ranks(pending_request.metadata.multiplexed_model_id, candidate_replicas)

    def _add_pending_request_to_indices(self, pending_request: PendingRequest) -> None:
        """Keeps no index: few calls wait at a time, and Serve's queue holds them."""

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: RequestMetadata | None = None
    ) -> PendingRequest | None:
        """The call that Serve found a replica for. None if the call was given up meanwhile."""
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None


def ranks(name: str, replicas: Sequence[RunningReplica]) -> list[list[RunningReplica]]:
    """The candidates for Serve, best rank first. The order inside a rank is random."""
    named = [replica for replica in replicas if replica.actor_id.hex() == name]
    others = [replica for replica in replicas if replica not in named]
    random.shuffle(others)
    return [rank for rank in (named, others) if rank]
