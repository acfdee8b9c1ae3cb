"""The cluster in simulated time: the production scheduler, simulated replicas and a fake clock.

Replicas run chunks as `deployments/core/chunks.py` does: in order of arrival, with small chunks
merged up to the batch's budget. Replicas may be slower or faster than the scheduler was told, and
they start late, stall and die.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from cluster.simulation.replicas import (
    Batches,
    Replica,
    plan_batches,
    pop_what_fits,
)
from cluster.simulation.requests import Requests
from cluster.simulation.scenario import (
    Arrival,
    Outcome,
    Policy,
    PoolNow,
    Sample,
    Trouble,
    Truth,
)
from deployments.core.scheduler.events import (
    Action,
    Event,
    Finished,
    GiveUp,
    Lost,
    Order,
    PoolSize,
    Refuse,
    Submit,
    Tick,
)
from deployments.core.scheduler.scheduler import Scheduler


class Simulation:
    """One simulation. `run()` ends when nothing is left to do, or at `until_ms`."""

    def __init__(
        self,
        pools: Sequence[Truth],
        arrivals: Sequence[Arrival],
        *,
        seed: int = 0,
        trouble: Trouble | None = None,
        policy: Policy | None = None,
        policy_every_ms: float = 5_000.0,
        max_queue_s: float = 1e12,
        scheduler: Scheduler | None = None,
        start_ms: float = 0.0,
        tick_ms: float = 100.0,
    ) -> None:
        self.now_ms = start_ms
        self.rng = random.Random(seed)
        self.trouble = trouble or Trouble()
        self.outcome = Outcome()
        self.scheduler = scheduler or Scheduler(
            [pool.prior for pool in pools], max_queue_s=max_queue_s
        )
        self._pools = {pool.prior.name: pool for pool in pools}
        self._replicas: dict[str, list[Replica]] = {name: [] for name in self._pools}
        self._targets = {name: pool.n_replicas for name, pool in self._pools.items()}
        self._starting = dict.fromkeys(self._pools, 0)
        self._policy = policy
        self._policy_every_ms, self._tick_ms = policy_every_ms, tick_ms
        self._queue: list[tuple[float, int, Callable[[], None]]] = []  # what happens, and when
        self._numbers = itertools.count()  # what is due at the same moment happens in this order
        self._names = itertools.count()
        self._requests = Requests(self.outcome)
        self._by_name: dict[str, Replica] = {}
        # Chunks that were sent to a pool in which no replica could take them.
        self._held: dict[str, deque[Order]] = {name: deque() for name in self._pools}
        self._poison = set(self.trouble.poison)
        self._n_busy = 0  # replicas that run a chunk
        self._n_coming = len(arrivals)  # requests that have not arrived
        for name, pool in self._pools.items():
            for _ in range(pool.n_replicas):
                self._replicas[name].append(self._new_replica(name))
            self._tell_size(name)
        for arrival in arrivals:
            self._at(arrival.at_ms, partial(self._arrive, arrival))
        for at_ms, name in self.trouble.kills:
            self._at(at_ms, partial(self._kill_one, name))
        self._at(self.now_ms + self.trouble.notice_ms, self._count)
        self._at(self.now_ms + tick_ms, self._tick)
        if policy is not None:
            self._at(self.now_ms, self._scale)

    def run(self, until_ms: float = float("inf")) -> Outcome:
        while self._queue and (self._requests or self._n_coming or self._n_busy):
            at_ms, _, act = heapq.heappop(self._queue)
            if at_ms > until_ms:
                break
            self.now_ms = at_ms
            act()
        return self.outcome

    # -- time

    def _at(self, at_ms: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (at_ms, next(self._numbers), act))

    def _tell(self, event: Event) -> None:
        began_s = time.thread_time()
        actions = self.scheduler.on_event(self.now_ms, event)
        self.outcome.scheduling_s += time.thread_time() - began_s
        for action in actions:
            self._do(action)

    def _tell_size(self, pool: str) -> None:
        self._tell(PoolSize(pool, tuple(replica.name for replica in self._replicas[pool])))

    def _do(self, action: Action) -> None:
        match action:
            case Order():
                self.outcome.n_chunks += 1
                self._send(action)
            case GiveUp(request, segments):
                self._requests.answer(self.now_ms, request, segments, given_up=True)
            case Refuse(request, _):
                self._requests.refuse(request)

    def _tick(self) -> None:
        self._tell(Tick())
        self._at(self.now_ms + self._tick_ms, self._tick)

    def _count(self) -> None:
        for name in self._replicas:
            self._tell_size(name)
        waiting_s = self.scheduler.waiting_s
        counts = {name: len(replicas) for name, replicas in self._replicas.items()}
        self.outcome.samples.append(Sample(self.now_ms, waiting_s, counts))
        self._at(self.now_ms + self.trouble.notice_ms, self._count)

    def _arrive(self, arrival: Arrival) -> None:
        self._n_coming -= 1
        lengths_ms = self._requests.arrive(arrival)
        self._tell(Submit(arrival.name, lengths_ms, interactive=arrival.interactive))

    # -- replicas

    def _new_replica(self, pool: str) -> Replica:
        slow = self.rng.random() < self.trouble.stragglers
        factor = self.trouble.straggler_factor if slow else 1.0
        taken = {other.gpu for other in self._replicas[pool]}
        gpu = next(i for i in itertools.count() if i not in taken)
        replica = Replica(pool, f"{pool}#{next(self._names)}", gpu, factor)
        self._by_name[replica.name] = replica
        if self.trouble.deaths_per_hour:
            in_ms = self.rng.expovariate(self.trouble.deaths_per_hour) * 3_600_000
            self._at(self.now_ms + in_ms, lambda: self._die(replica))
        return replica

    def _kill_one(self, pool: str) -> None:
        if self._replicas[pool]:
            self._die(self._replicas[pool][0])

    def _die(self, replica: Replica) -> None:
        if replica not in self._replicas[replica.pool]:
            return
        self.outcome.n_deaths += 1
        self._replicas[replica.pool].remove(replica)
        del self._by_name[replica.name]
        lost = [*replica.running, *replica.waiting]
        self._n_busy -= bool(replica.running)
        replica.running, replica.batch = [], -1
        replica.waiting.clear()
        self._start(replica.pool, self.trouble.replace_ms)
        for order in lost:
            self._tell(Lost(order.order, replica.name))

    def _start(self, pool: str, in_ms: float = 0.0) -> None:
        self._starting[pool] += 1
        self._at(
            self.now_ms + (in_ms or self._pools[pool].prior.start_ms), lambda: self._started(pool)
        )

    def _started(self, pool: str) -> None:
        self._starting[pool] -= 1
        if len(self._replicas[pool]) >= max(self._targets[pool], 1):
            return
        self._replicas[pool].append(self._new_replica(pool))
        self._tell_size(pool)
        self._hand_over_held(pool)

    def _send(self, order: Order) -> None:
        if not self._hand_over(order):
            self._held[order.pool].append(order)
            if not self._replicas[order.pool] and not self._starting[order.pool]:
                self._start(order.pool)

    def _hand_over_held(self, pool: str) -> None:
        held = self._held[pool]
        while held and self._hand_over(held[0]):
            held.popleft()

    def _hand_over(self, order: Order) -> bool:
        """Gives the chunk to a replica of its pool. False if no replica can take it now."""
        named = self._by_name.get(order.replica)
        replicas = self._replicas[order.pool] if named is None else [named]
        least = min((replica.ongoing for replica in replicas), default=None)
        if least is None or least >= self._pools[order.pool].prior.max_ongoing:
            return False
        replica = self.rng.choice([replica for replica in replicas if replica.ongoing == least])
        replica.waiting.append(order)
        if not replica.running:
            self._begin(replica)
        return True

    def _begin(self, replica: Replica) -> None:
        """Starts the first chunk that waits, and every further chunk that fits beside it."""
        truth = self._pools[replica.pool]
        budget_ms = truth.prior.batch_audio_ms
        taken, lengths_ms = pop_what_fits(replica.waiting, self._requests.lengths_ms, budget_ms)
        replica.running = taken
        replica.batch += 1
        self._n_busy += 1
        n_batches, padded_ms = plan_batches(lengths_ms, truth.prior, n_chunks=len(taken))
        noise = self.rng.lognormvariate(0.0, self.trouble.noise) if self.trouble.noise else 1.0
        speed, overhead_ms = truth.of(replica.gpu)
        busy_ms = (n_batches * overhead_ms + padded_ms / speed) * noise * replica.factor
        self.outcome.busy_ms[replica.pool] = self.outcome.busy_ms.get(replica.pool, 0.0) + busy_ms
        done = Batches(replica.batch, n_batches, padded_ms, busy_ms)
        poisoned = any((o.request, s) in self._poison for o in taken for s in o.segments)
        self._at(self.now_ms + busy_ms, lambda: self._end(replica, done, poisoned=poisoned))

    def _end(self, replica: Replica, done: Batches, *, poisoned: bool) -> None:
        if done.number != replica.batch:
            return  # the replica died meanwhile
        if poisoned:
            self._die(replica)
            return
        ended = replica.running
        replica.running = []
        self._n_busy -= 1
        totals = [sum(self._requests.lengths_ms(order)) for order in ended]
        if replica.waiting:
            self._begin(replica)
        for order, total in zip(ended, totals, strict=True):
            share = total / sum(totals)
            self._requests.answer(self.now_ms, order.request, order.segments)
            padded, busy = round(done.padded_ms * share), done.busy_ms * share
            self._tell(Finished(order.order, padded, busy, replica.name, share, done.n_batches))
        self._hand_over_held(replica.pool)

    # -- autoscaling

    def _scale(self) -> None:
        assert self._policy is not None
        snapshot = self.scheduler.snapshot()
        backlog_s = self.scheduler.backlog_s
        pools = [
            PoolNow(
                name=name,
                running=len(self._replicas[name]),
                target=self._targets[name],
                min_replicas=0 if pool.prior.can_start else 1,
                max_replicas=pool.max_replicas or pool.n_replicas,
                speed=float(snapshot[name]["full_speed"]),
                price=pool.price,
                start_s=pool.prior.start_ms / 1000,
                backlog_s=backlog_s,
                accepted_s=self._requests.accepted_ms / 1000,
            )
            for name, pool in self._pools.items()
        ]
        for name, wanted in self._policy(self.now_ms, pools).items():
            self._targets[name] = wanted
            here = self._replicas[name]
            for _ in range(wanted - len(here) - self._starting[name]):
                self._start(name)
            idle = [replica for replica in here if not replica.ongoing]
            for replica in idle[: max(0, len(here) - wanted)]:
                here.remove(replica)
                del self._by_name[replica.name]
        self._at(self.now_ms + self._policy_every_ms, self._scale)
