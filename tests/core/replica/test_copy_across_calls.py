"""The next batch is copied to the device before the replica is free to read it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from deployments.core.chunks import ChunkRunner, Prepared
from deployments.core.owner import Owner
from deployments.core.types import Audio, ChunkResult
from tests.core.replica.fake_device import (
    PATIENCE_S,
    Device,
    Replica,
    all_of,
    chunk,
    played,
    stand_still,
    texts,
    until,
)


def test_the_next_call_is_copied_while_this_one_computes_and_not_again() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        first = await replica.send(6000)
        await until(lambda: "began 6000" in device.events)
        second = await replica.send(8000)
        await until(lambda: "copied 8000" in device.events)
        device.go_on(2)
        assert await all_of(first, second) == [["6000"], ["8000"]]

    device = played(scenario)

    assert device.events == [
        *("copied 6000", "began 6000", "copied 8000"),
        *("ended 6000", "began 8000", "ended 8000"),
    ]


def test_a_job_that_waits_when_a_call_begins_is_copied_at_once() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        tasks = [await replica.send(n_ms) for n_ms in (6000, 7000, 8000)]
        await until(lambda: "copied 7000" in device.events)
        device.go_on()
        await until(lambda: "copied 8000" in device.events)
        device.go_on(2)
        assert await all_of(*tasks) == [["6000"], ["7000"], ["8000"]]

    device = played(scenario)

    assert device.events[0] == "copied 6000"  # waiting jobs are not copied before it
    assert device.events.index("copied 7000") < device.events.index("ended 6000")
    assert device.events.index("copied 8000") < device.events.index("ended 7000")
    assert len(device.copies) == 3


def test_a_burst_of_jobs_is_prepared_once_and_not_for_each_job() -> None:
    asked: list[list[int]] = []
    go_on = threading.Event()

    def run(_: None, jobs: Sequence[int]) -> list[int]:
        assert go_on.wait(PATIENCE_S)
        return list(jobs)

    def prepare(_: None, jobs: Sequence[int]) -> Sequence[int]:
        asked.append(list(jobs))
        return jobs

    async def scenario() -> None:
        owner = Owner[None, int, int](lambda: None, run, lambda *_: True, prepare)
        jobs = [asyncio.create_task(owner.submit(0))]
        await asyncio.sleep(0.01)
        jobs += [asyncio.create_task(owner.submit(n)) for n in range(1, 17)]
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(*jobs) == list(range(17))

    asyncio.run(scenario())

    assert asked == [[0], list(range(1, 17))]


def test_a_caller_that_leaves_as_the_call_ends_leaves_nothing_on_the_device() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        first = await replica.send(9000)
        await until(lambda: "began 9000" in device.events)
        second = await replica.send(8000)
        await until(lambda: "copied 8000" in device.events)
        device.go_on()
        stand_still(lambda: "ended 9000" in device.events)  # the loop sees both in one turn
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert device.n_held == 0

    device = played(scenario)

    assert device.events == ["copied 9000", "began 9000", "copied 8000", "ended 9000"]


def test_a_failure_to_prepare_costs_no_answer() -> None:
    async def scenario() -> None:
        def fails(model: object, jobs: Sequence[int]) -> Sequence[int]:
            raise RuntimeError("can't start new thread")

        owner = Owner[None, int, int](lambda: None, lambda _, jobs: list(jobs), prepare=fails)
        jobs = [asyncio.create_task(owner.submit(n)) for n in range(5)]
        assert await asyncio.wait_for(asyncio.gather(*jobs), PATIENCE_S) == [0, 1, 2, 3, 4]

    asyncio.run(scenario())


def test_a_later_job_that_fits_joins_the_prepared_group() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        first = await replica.send(9000)
        await until(lambda: "began 9000" in device.events)
        second = await replica.send(3000)
        await until(lambda: "copied 3000" in device.events)
        third = await replica.send(4000)
        await until(lambda: "copied 4000+3000" in device.events)
        assert device.n_held == 2  # the batch being computed, and the one group
        device.go_on(2)
        assert await all_of(first, second, third) == [["9000"], ["3000"], ["4000"]]

    device = played(scenario)

    assert device.events[-3:] == ["ended 9000", "began 4000+3000", "ended 4000+3000"]
    assert len(device.copies) == 3


def test_a_caller_that_submits_again_at_once_joins_the_prepared_job() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        async def twice() -> ChunkResult:
            await replica.owner.submit(chunk(9000))
            return await replica.owner.submit(chunk(4000))

        first = asyncio.create_task(twice())
        await until(lambda: "began 9000" in device.events)
        second = await replica.send(3000)
        await until(lambda: "copied 3000" in device.events)
        device.go_on(2)
        assert await all_of(first, second) == [["4000"], ["3000"]]

    device = played(scenario)

    assert device.events[-3:] == ["copied 4000+3000", "began 4000+3000", "ended 4000+3000"]


def test_jobs_that_do_not_fit_leave_the_prepared_group_as_it_is() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        tasks = [await replica.send(9000)]
        await until(lambda: "began 9000" in device.events)
        tasks += [await replica.send(n_ms) for n_ms in (8000, 7000, 6000)]
        await until(lambda: "copied 8000" in device.events)
        assert device.n_held == 2
        device.go_on(4)
        assert await all_of(*tasks) == [["9000"], ["8000"], ["7000"], ["6000"]]

    device = played(scenario)

    copied = [event for event in device.events if event.startswith("copied")]
    assert copied == ["copied 9000", "copied 8000", "copied 7000", "copied 6000"]


def test_when_a_caller_leaves_its_copy_is_freed_and_its_job_never_starts() -> None:
    async def scenario(device: Device, replica: Replica) -> None:
        first = await replica.send(9000)
        await until(lambda: "began 9000" in device.events)
        gone, last = await replica.send(8000), await replica.send(7000)
        await until(lambda: "copied 8000" in device.events)
        gone.cancel()
        await until(lambda: "copied 7000" in device.events)
        assert device.n_held == 2
        last.cancel()
        await asyncio.sleep(0)
        await until(lambda: device.n_held == 1)
        device.go_on(2)
        assert await all_of(first, await replica.send(5000)) == [["9000"], ["5000"]]

    device = played(scenario)

    began = [event for event in device.events if event.startswith("began")]
    assert began == ["began 9000", "began 5000"]
    assert device.n_held == 0


def test_a_group_that_was_dropped_before_its_turn_is_not_copied() -> None:
    device = Device()
    is_copying, may_copy = threading.Event(), threading.Event()

    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        is_copying.set()
        assert may_copy.wait(PATIENCE_S)
        return device.copy_in(batch)

    runner = ChunkRunner(device.transcribe, engine="e", replica="r", copy_in=copy_in)
    runner.allow(10_000)

    running = runner.prepare([chunk(1000)])
    assert is_copying.wait(PATIENCE_S)
    runner.prepare([chunk(2000)])
    last = runner.prepare([chunk(3000)])
    may_copy.set()
    device.go_on(2)

    assert texts([*runner.run(running), *runner.run(last)]) == [["1000"], ["3000"]]
    assert [event for event in device.events if "copied" in event] == ["copied 1000", "copied 3000"]


def test_a_group_prepared_for_a_larger_budget_is_packed_and_copied_anew() -> None:
    device = Device(room_ms=5000)
    runner = ChunkRunner(device.transcribe, engine="e", replica="r", copy_in=device.copy_in)
    runner.allow(10_000)
    device.go_on(20)

    now, after = (runner.prepare([chunk(*[2000] * 5)]) for _ in range(2))
    assert isinstance(after, Prepared)
    assert after.first is not None
    after.first.result()
    results = [*runner.run(now), *runner.run(after)]

    assert texts(results) == [["2000"] * 5] * 2
    assert (runner.budget_ms, runner.n_out_of_memory) == (5000, 1)
    assert device.events[-2:] == ["began 2000", "ended 2000"]  # batches of two, two and one
    assert device.n_held == 0


def test_a_copy_for_the_next_call_that_fails_leaves_the_batch_to_the_engine() -> None:
    device = Device()

    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        raise RuntimeError("no room for a copy")

    runner = ChunkRunner(device.transcribe, engine="e", replica="r", copy_in=copy_in)
    runner.allow(10_000)
    device.go_on()

    assert texts(runner.run(runner.prepare([chunk(1000)]))) == [["1000"]]
