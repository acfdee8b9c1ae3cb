"""Production's autoscaling policy, `cluster.autoscaling.decide`, for use in the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from cluster.autoscaling import Aims, Load, PoolLoad, State, decide
from cluster.profiles import replica_price
from cluster.simulation.scenario import Outcome, PoolNow, Truth

POLICY_EVERY_MS = 2_000.0  # how often the dispatcher's figures reach the policy
MS_PER_HOUR = 3_600_000.0


class Autoscaler:
    """A simulation's `Policy`. It keeps the state that Serve keeps in production."""

    def __init__(self, aims: Aims) -> None:
        self._aims, self._state = aims, State()

    def __call__(self, now_ms: float, pools: Sequence[PoolNow]) -> Mapping[str, int]:
        load = Load(pools[0].backlog_s, pools[0].accepted_s)
        seen = [
            PoolLoad(
                pool.name,
                running=pool.running,
                target=pool.target,
                min_replicas=pool.min_replicas,
                max_replicas=pool.max_replicas,
                speed=pool.speed,
                price=pool.price,
                start_s=pool.start_s,
            )
            for pool in pools
        ]
        desired, self._state = decide(now_ms / 1000, load, seen, self._state, self._aims)
        return desired


def from_nothing(pools: Sequence[Truth]) -> list[Truth]:
    """The same fleet with nothing running. Each pool may grow to the replicas that it had.

    A pool is named after its GPU, and each replica has one whole card of that type. Its price is
    the one in the table of profiles.
    """
    found = []
    for pool in pools:
        price = replica_price(pool.prior.name, num_gpus=1, num_cpus=0)
        prior = replace(pool.prior, can_start=True, price_per_hour=price)
        found.append(
            replace(pool, prior=prior, n_replicas=0, max_replicas=pool.n_replicas, price=price)
        )
    return found


def running_hours(outcome: Outcome) -> dict[str, float]:
    """Hours that each pool's replicas ran, from the samples. Starting replicas do not count."""
    hours: dict[str, float] = {}
    for sample, following in pairwise(outcome.samples):
        for name, n_replicas in sample.replicas.items():
            more = n_replicas * (following.at_ms - sample.at_ms) / MS_PER_HOUR
            hours[name] = hours.get(name, 0.0) + more
    return hours
