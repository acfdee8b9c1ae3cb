"""A device that records its copies and its batches, and an ASR replica that runs on it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import numpy as np

from deployments.core.chunks import Chunk, ChunkRunner
from deployments.core.errors import OutOfMemory
from deployments.core.owner import Owner
from deployments.core.types import SAMPLES_PER_MS, Audio, ChunkResult, Hints, Recognition

PATIENCE_S = 5.0


class Copied(list[Audio]):
    """A batch on the device."""


class Device:
    """Copies and computes on the threads of its callers, and records the events.

    Batches are named by the lengths of their items in milliseconds. Each batch is computed only
    after a call of `go_on`.
    """

    def __init__(self, *, room_ms: int = 60_000) -> None:
        self.events: list[str] = []
        self.copies: list[weakref.ref[Copied]] = []
        self._room_ms = room_ms
        self._allowed = threading.Semaphore(0)

    def go_on(self, n_batches: int = 1) -> None:
        self._allowed.release(n_batches)

    def copy_in(self, batch: Sequence[Audio]) -> Copied:
        copied = Copied(batch)
        self.copies.append(weakref.ref(copied))
        self.events.append(f"copied {name(batch)}")
        return copied

    def transcribe(self, batch: Sequence[Audio], hints: Hints) -> list[Recognition]:
        self.events.append(f"began {name(batch)}")
        assert self._allowed.acquire(timeout=PATIENCE_S)
        if sum(map(len, batch)) > self._room_ms * SAMPLES_PER_MS:
            raise OutOfMemory("no room")
        self.events.append(f"ended {name(batch)}")
        return [Recognition(f"{len(audio) // SAMPLES_PER_MS}") for audio in batch]

    @property
    def n_held(self) -> int:
        gc.collect()
        return sum(copy() is not None for copy in self.copies)


def name(batch: Sequence[Audio]) -> str:
    return "+".join(f"{len(audio) // SAMPLES_PER_MS}" for audio in batch)


def chunk(*lengths_ms: int) -> Chunk:
    lengths = tuple(ms * SAMPLES_PER_MS for ms in lengths_ms)
    return Chunk(np.zeros(sum(lengths), np.int16), lengths, Hints())


class Replica:
    """A runner on its owner thread, with a budget of 10 s."""

    def __init__(self, device: Device) -> None:
        def load() -> ChunkRunner:
            made = ChunkRunner(device.transcribe, engine="e", replica="r", copy_in=device.copy_in)
            made.allow(10_000)
            return made

        self.owner = Owner[ChunkRunner, Chunk, ChunkResult](
            load, ChunkRunner.run, ChunkRunner.fits, ChunkRunner.prepare
        )

    async def send(self, *lengths_ms: int) -> asyncio.Task[ChunkResult]:
        task = asyncio.create_task(self.owner.submit(chunk(*lengths_ms)))
        await asyncio.sleep(0)
        return task


def stand_still(holds: Callable[[], bool]) -> None:
    """Returns once the condition holds. Blocks the thread meanwhile."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)
    time.sleep(0.01)


async def until(holds: Callable[[], bool]) -> None:
    """Returns once the condition holds. The event loop goes on meanwhile."""
    await asyncio.to_thread(stand_still, holds)


def texts(results: Sequence[ChunkResult]) -> list[list[str]]:
    return [[r.text for r in result.recognitions] for result in results]


def played(scenario: Callable[[Device, Replica], Coroutine[None, None, None]]) -> Device:
    device = Device()
    asyncio.run(scenario(device, Replica(device)))
    return device


async def all_of(*tasks: Awaitable[ChunkResult]) -> list[list[str]]:
    return texts(await asyncio.gather(*tasks))
