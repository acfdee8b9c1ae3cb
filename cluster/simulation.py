"""The cluster in simulated time: the scheduler of production behind a fake clock.

Replicas run chunks as `deployments/core/chunks.py` does: in order of arrival, small ones merged up
to the budget. They are slower or faster than the priors say, start late, stall and die.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from cluster.replicas import Batches, Replica, serves_choice
from cluster.scenario import (
    Arrival,
    Choice,
    Done,
    Outcome,
    Policy,
    PoolNow,
    Sample,
    Trouble,
    Truth,
)
from deployments.core.batching import pack, padded_ms, worthwhile_slack_ms
from deployments.core.events import (
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
from deployments.core.scheduling import Scheduler


class Simulation:
    """One run. `run()` plays until nothing is left to do, or until `until_ms`."""

    def __init__(
        self,
        pools: Sequence[Truth],
        arrivals: Sequence[Arrival],
        *,
        seed: int = 0,
        trouble: Trouble | None = None,
        choice: Choice = "named",
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
        self._choice, self._policy = choice, policy
        self._policy_every_ms, self._tick_ms = policy_every_ms, tick_ms
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._names = itertools.count()
        self._open: dict[str, tuple[Arrival, set[int], int]] = {}
        self._by_name: dict[str, Replica] = {}
        self._held: dict[str, deque[Order]] = {name: deque() for name in self._pools}
        self._poison = set(self.trouble.poison)
        self._accepted_ms = 0.0
        self._n_busy = 0  # replicas
        self._n_coming = len(arrivals)
        for name, pool in self._pools.items():
            for _ in range(pool.n_replicas):
                self._replicas[name].append(self._new_replica(name))
            self._tell_size(name)
        for arrival in arrivals:
            self._at(arrival.at_ms, lambda arrival=arrival: self._arrive(arrival))  # type: ignore[misc]
        for at_ms, name in self.trouble.kills:
            self._at(at_ms, lambda name=name: self._kill_one(name))  # type: ignore[misc]
        self._at(self.now_ms + self.trouble.notice_ms, self._count)
        self._at(self.now_ms + tick_ms, self._tick)
        if policy is not None:
            self._at(self.now_ms, self._scale)

    def run(self, until_ms: float = float("inf")) -> Outcome:
        while self._queue and (self._open or self._n_coming or self._n_busy):
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
        here = self._replicas[pool]
        names = tuple(r.name for r in here) if self._choice == "named" else ()
        self._tell(PoolSize(pool, len(here), names))

    def _do(self, action: Action) -> None:
        match action:
            case Order():
                self.outcome.n_chunks += 1
                self._send(action)
            case GiveUp(request, segments):
                self._answered(request, segments, given_up=True)
            case Refuse(request, _):
                self._open.pop(request, None)
                self.outcome.refused += 1

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

    # -- requests

    def _arrive(self, arrival: Arrival) -> None:
        self._n_coming -= 1
        lengths_ms = dict(enumerate(arrival.lengths_ms))
        self._open[arrival.name] = (arrival, set(lengths_ms), 0)
        self._accepted_ms += sum(arrival.lengths_ms)
        self._tell(Submit(arrival.name, lengths_ms, interactive=arrival.interactive))

    def _answered(self, request: str, segments: Sequence[int], *, given_up: bool = False) -> None:
        if request not in self._open:
            return
        arrival, missing, lost = self._open[request]
        fresh = missing.intersection(segments)
        missing -= fresh
        self._open[request] = (arrival, missing, lost + (len(fresh) if given_up else 0))
        if not given_up:
            self.outcome.answers.setdefault(request, []).extend(fresh)
        if not missing:
            _, _, lost = self._open.pop(request)
            latency_ms = self.now_ms - arrival.at_ms
            audio_ms = sum(arrival.lengths_ms)
            self.outcome.done.append(Done(request, self.now_ms, latency_ms, audio_ms, lost))

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
        name = replica.name if self._choice == "named" else ""  # as Ray's error tells it
        for order in lost:
            self._tell(Lost(order.order, name))

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
        while self._held[pool] and self._take(self._held[pool][0]):
            self._held[pool].popleft()

    def _send(self, order: Order) -> None:
        if not self._take(order):
            self._held[order.pool].append(order)
            if not self._replicas[order.pool] and not self._starting[order.pool]:
                self._start(order.pool)

    def _take(self, order: Order) -> bool:
        """Gives the chunk to a replica of its pool; False where none may have it."""
        most = self._pools[order.pool].prior.max_ongoing
        here = self._replicas[order.pool]
        named = self._by_name.get(order.replica) if self._choice == "named" else None
        replicas = [named] if named is not None else serves_choice(here, most, self.rng)
        least = min((replica.ongoing for replica in replicas), default=most)
        if least >= most:
            return False
        replica = self.rng.choice([r for r in replicas if r.ongoing == least])
        replica.waiting.append(order)
        if not replica.running:
            self._begin(replica)
        return True

    def _lengths(self, order: Order) -> list[int]:
        if order.request not in self._open:
            return [1]  # its result is dropped; it was cancelled before it began
        lengths_ms = self._open[order.request][0].lengths_ms
        return [lengths_ms[s] for s in order.segments]

    def _begin(self, replica: Replica) -> None:
        """The first that waits and every one that fits beside it."""
        truth = self._pools[replica.pool]
        budget_ms = truth.prior.batch_audio_ms
        taken: list[Order] = []
        lengths_ms: list[int] = []
        while replica.waiting:
            together = [*lengths_ms, *self._lengths(replica.waiting[0])]
            if taken and padded_ms(together) > budget_ms:
                break
            taken.append(replica.waiting.popleft())
            lengths_ms = together
        if not taken:
            return
        replica.running = taken
        replica.batch += 1
        self._n_busy += 1
        slack_ms = budget_ms  # one chunk was made to be one batch
        if len(taken) > 1:
            slack_ms = worthwhile_slack_ms(truth.prior.overhead_ms, truth.prior.speed)
        batches = pack(lengths_ms, budget_ms=budget_ms, slack_ms=slack_ms)
        cost_ms = sum(padded_ms([lengths_ms[i] for i in batch]) for batch in batches)
        noise = self.rng.lognormvariate(0.0, self.trouble.noise) if self.trouble.noise else 1.0
        speed, overhead_ms = truth.of(replica.gpu)
        busy_ms = (len(batches) * overhead_ms + cost_ms / speed) * noise * replica.factor
        self.outcome.busy_ms[replica.pool] = self.outcome.busy_ms.get(replica.pool, 0.0) + busy_ms
        done = Batches(replica.batch, len(batches), cost_ms, busy_ms)
        poisoned = any((o.request, s) in self._poison for o in taken for s in o.segments)
        self._at(
            self.now_ms + busy_ms,
            lambda: self._end(replica, done, poisoned=poisoned),
        )

    def _end(self, replica: Replica, done: Batches, *, poisoned: bool) -> None:
        if done.number != replica.batch:
            return  # it died meanwhile
        if poisoned:
            self._die(replica)
            return
        ended = replica.running
        replica.running = []
        self._n_busy -= 1
        totals = [sum(self._lengths(order)) for order in ended]
        if replica.waiting:
            self._begin(replica)
        for order, total in zip(ended, totals, strict=True):
            share = total / sum(totals)
            self._answered(order.request, order.segments)
            padded, busy = round(done.padded_ms * share), done.busy_ms * share
            self._tell(Finished(order.order, padded, busy, replica.name, share, done.n_batches))
        held = self._held[replica.pool]
        while held and self._take(held[0]):
            held.popleft()

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
                accepted_s=self._accepted_ms / 1000,
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
