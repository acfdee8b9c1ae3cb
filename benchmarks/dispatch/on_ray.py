"""`dispatch_on_ray`: one recording on five unlike GPUs on real Ray, relative to an ideal plan.

Five fake nodes have engines that sleep (`sleeping_cluster.py`): 2 T4 in one pool, an L4, an A10G
and an A100. Each card's prior is wrong by 30 %. The ideal plan knows every speed, and knows when a
replica will die. It moves no audio and takes no time itself. A figure is the median of the makespan
divided by the plan's. Before, the pools have done a dozen shorter recordings.

- `real_pull_over_ours`: the makespan where replicas pull, divided by ours. A replica with room for
  another chunk (two each) takes a full batch. One prior is wrong by a factor of 3, and another card
  runs at a third of its speed. Both sides take turns.
- `..._death_...`: a replica's process is killed at 40 % of the plan.
- `node_death_notice_s`: from a node's end to the first loss that the sender is told of.
- `load_before`, `load_after`: the load of the machine. The times are real time on shared cores.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Annotated

import typer

from benchmarks.dispatch.cards import CARDS, FLEET, config, prompt, wrong_priors
from benchmarks.dispatch.fleets import PRIOR_ERROR, Gpu, cost_s, full_batch, in_ms, segments_s
from benchmarks.dispatch.sender import Kill, Run
from benchmarks.dispatch.sleeping_cluster import Sleeping, sleeping_cluster
from benchmarks.results import Figures

KILL_AT = 0.4  # of the plan's makespan
LONG_SLOW_DOWN = 10.0  # an hour of audio then lasts until a node's death is noticed
AUDIO_S = 4 * 3600 + 60
WARM_UP = 12  # recordings, before the measured ones
KILLS = 2  # of each pool; the next one waits until the replica is replaced


def plan_s(
    lengths_s: Sequence[float],
    fleet: Sequence[str],
    *,
    slow_down: float = 1.0,
    until_s: Mapping[int, float] | None = None,
) -> float:
    """The makespan of the ideal plan (`fleets.together`) where some of the GPUs die.

    `until_s`: index in the fleet -> when that GPU dies. The plan gives a GPU no chunk that it
    cannot finish before.
    """
    queue = sorted(lengths_s, reverse=True)
    cards = [CARDS[name] for name in fleet]
    order = sorted(range(len(cards)), key=lambda i: -cards[i].speed)
    ends = {i: end_s / slow_down for i, end_s in (until_s or {}).items()}

    def fits(end_s: float) -> bool:
        k = 0
        for i in order:
            k += _filled(queue[k:], cards[i], min(end_s, ends.get(i, end_s)))
        return k == len(queue)

    low_s, high_s = 0.0, 10_000.0
    for _ in range(40):
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if fits(middle_s) else (middle_s, high_s)
    return high_s * slow_down


def _filled(queue: Sequence[float], gpu: Gpu, end_s: float) -> int:
    """How many segments from the front of the queue the GPU finishes by `end_s`."""
    k, at_s = 0, 0.0
    while k < len(queue):
        in_time = int((end_s - at_s - gpu.overhead_s) * gpu.speed / queue[k] + 1e-9)
        n = min(in_time, full_batch(queue, k, gpu))
        if n < 1:
            break
        at_s += cost_s(gpu, queue[k : k + n])
        k += n
    return k


def run(
    recordings: Annotated[int, typer.Option(help="Recordings of each length.", min=1)] = 5,
) -> Figures:
    """One recording on five unlike GPUs on real Ray, relative to an ideal plan."""
    figures: Figures = {"load_before": _load()}
    with sleeping_cluster() as cluster:
        figures |= against_pull(cluster, recordings)
        figures |= {"real_over_plan_5min": short(cluster, recordings)}
        figures |= at_real_speed(cluster, recordings)
        figures |= replica_added(cluster)
        figures |= node_killed(cluster)
    return figures | {"load_after": _load()}


def one_hour(recordings: int = 5) -> Figures:
    """`real_over_plan_1h` alone, for `python -m benchmarks dispatch --real`."""
    with sleeping_cluster() as cluster:
        return warm_hours(cluster, {"1h": 3600}, recordings)


def warm_hours(cluster: Sleeping, lengths_s: Mapping[str, float], recordings: int) -> Figures:
    """Recordings of these lengths at real speed, on pools that have done others before."""
    cluster.deploy(config(wrong_priors(1, error=PRIOR_ERROR)), audio_s=AUDIO_S)
    warm_up(cluster, slow_down=1.0)
    figures: Figures = {}
    for name, length_s in lengths_s.items():
        ratios = [over_plan(cluster, recording(length_s, seed)) for seed in range(recordings)]
        figures[f"real_over_plan_{name}"] = round(median(ratios), 3)
    return figures


def at_real_speed(cluster: Sleeping, recordings: int) -> Figures:
    """One and four hours on warm pools; then an hour in which a replica is killed."""
    figures = warm_hours(cluster, {"1h": 3600, "4h": 14_400}, recordings)
    of_one = [killed(cluster, "A100", seed) for seed in range(KILLS)]
    of_two = [killed(cluster, "T4", seed) for seed in range(KILLS)]
    return figures | {
        "real_death_over_plan": round(median(of_one), 3),
        "real_death_over_plan_pool_of_two": round(median(of_two), 3),
    }


def short(cluster: Sleeping, recordings: int) -> float:
    """Five minutes at a quarter of the speed, on warm pools."""
    priors = wrong_priors(2, error=PRIOR_ERROR)
    cluster.deploy(config(priors, slow_down=4.0), audio_s=AUDIO_S)
    warm_up(cluster, slow_down=4.0)
    seeds = range(2 * recordings)
    return round(median(over_plan(cluster, recording(300, s), slow_down=4.0) for s in seeds), 3)


def against_pull(cluster: Sleeping, recordings: int) -> Figures:
    """The makespan of a pull, divided by ours; both sides take turns.

    The L4's prior is wrong by a factor of 3, and the A10G runs at a third of its speed.
    """
    priors = wrong_priors(0, error=0.0) | {"L4": (3.0, 1.0)}
    cluster.deploy(config(priors), audio_s=AUDIO_S)
    true = CARDS | {"A10G": slower(CARDS["A10G"], 3)}
    told = prompt(true)
    first: list[float] = []
    ratios: list[float] = []
    for seed in range(recordings + 1):
        lengths = in_ms(recording(3600, seed))
        ours = checked(cluster.recognise(lengths, told))
        pull = checked(cluster.recognise(lengths, told, pull=True))
        (ratios if seed else first).append(pull.took_s / ours.took_s)
    return {
        "real_pull_over_ours": round(median(ratios), 3),
        "real_pull_over_ours_cold": round(first[0], 3),
    }


def killed(cluster: Sleeping, card: str, seed: int) -> float:
    """The makespan of an hour in which a replica dies, divided by that of the ideal plan."""
    lengths = recording(3600, seed)
    at_s = KILL_AT * plan_s(lengths, FLEET)
    kill = Kill(cluster.replica_pids(card)[0], at_s)
    ours = checked(cluster.recognise(in_ms(lengths), prompt(CARDS), kill=kill))
    cluster.wait_until_replaced(card, kill.pid)
    return ours.took_s / plan_s(lengths, FLEET, until_s={FLEET.index(card): at_s})


def replica_added(cluster: Sleeping) -> Figures:
    """Two hours at a tenth of the speed, during which Serve adds a second replica of the T4."""
    priors = wrong_priors(3, error=PRIOR_ERROR)
    cluster.deploy(config(priors, slow_down=LONG_SLOW_DOWN, n_t4=1), audio_s=AUDIO_S)
    lengths = in_ms(recording(7200, 0))
    ours = checked(cluster.recognise(lengths, prompt(CARDS, slow_down=LONG_SLOW_DOWN)))
    first_s = {c.replica: c.sent_s for c in reversed(ours.chunks) if c.pool == "T4"}
    added = max(first_s, key=lambda name: first_s[name])
    return {
        "added_replicas": len(first_s) - 1,
        "added_replica_from_s": round(first_s[added], 2),
        "added_replica_segments": ours.segments["T4", added],
        "added_replica_of_s": round(ours.took_s, 2),
    }


def node_killed(cluster: Sleeping) -> Figures:
    """An hour at a tenth of the speed, during which the A10G's node dies."""
    lengths = recording(3600, 1)
    plan = plan_s(lengths, FLEET, slow_down=LONG_SLOW_DOWN)
    running = cluster.start(in_ms(lengths), prompt(CARDS, slow_down=LONG_SLOW_DOWN))
    at_s = KILL_AT * plan
    time.sleep(at_s)
    cluster.kill_node("A10G")
    ours = checked(running.result(timeout_s=120))
    knowing = plan_s(lengths, FLEET, slow_down=LONG_SLOW_DOWN, until_s={FLEET.index("A10G"): at_s})
    notice_s = min(ours.chunks_lost_s, default=float("nan")) - at_s
    return {
        "node_death_notice_s": round(notice_s, 2),
        "node_death_over_plan": round(ours.took_s / knowing, 3),
    }


def recording(length_s: float, seed: int) -> list[float]:
    """The lengths of a recording's segments."""
    return segments_s(length_s, random.Random(seed))


def warm_up(cluster: Sleeping, *, slow_down: float) -> None:
    """Has the pools recognise recordings, so that the scheduler learns their speeds."""
    told = prompt(CARDS, slow_down=slow_down)
    for lengths_s in warm_up_lengths_s():
        checked(cluster.recognise(in_ms(lengths_s), told))


def warm_up_lengths_s() -> Iterator[list[float]]:
    """The segments' lengths of recordings of one to ten minutes."""
    rng = random.Random(7)
    for _ in range(WARM_UP):
        yield segments_s(rng.choice((60, 120, 600)), rng)


def over_plan(cluster: Sleeping, lengths_s: Sequence[float], *, slow_down: float = 1.0) -> float:
    """The makespan of a recording, divided by the plan's."""
    ours = checked(cluster.recognise(in_ms(lengths_s), prompt(CARDS, slow_down=slow_down)))
    return ours.took_s / plan_s(lengths_s, FLEET, slow_down=slow_down)


def checked(run: Run) -> Run:
    """The same run. Raises ValueError where a segment came twice or from other samples."""
    if run.wrong:
        raise ValueError(f"{len(run.wrong)} segments came twice, or not as they were sent.")
    return run


def slower(gpu: Gpu, times: float) -> Gpu:
    """The GPU with its speed divided, and its overhead multiplied, by `times`."""
    return replace(gpu, speed=gpu.speed / times, overhead_s=gpu.overhead_s * times)


def _load() -> float:
    return round(os.getloadavg()[0], 2)
