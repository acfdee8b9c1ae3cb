"""Copies the next batch's samples to the GPU while the current batch is computed.

The copy goes through pinned memory and runs on a CUDA stream of its own. On a CPU there is nothing
to copy, and a batch stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deployments.core.types import Audio
from deployments.engines.packed import to_device


class Staged(tuple[Audio, ...]):
    """A batch whose samples are being copied to the GPU. A slice of it is an ordinary batch."""

    samples: Tensor | None  # (n_samples of all,) int16, on the device; None after `samples_of`
    arrived: torch.cuda.Event
    places: list[slice] | None = None  # where the items lie in `samples`; None: they fill it


class CopyIn:
    """Starts copies to a device, on a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        on_card = device.type == "cuda"
        self._stream = torch.cuda.Stream() if on_card else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Sequence[Audio]) -> Sequence[Audio]:
        """Starts the copy and returns the batch. Raises torch's errors, such as out of memory."""
        if self._stream is None:
            return batch
        with torch.cuda.stream(self._stream):
            staged = Staged(batch)
            staged.samples = to_device(end_to_end(batch), self._device)
            staged.arrived = self._stream.record_event()
        return staged


def samples_of(batch: Sequence[Audio], device: torch.device) -> Tensor:
    """The samples of all items end to end, (n_samples of all,) int16, on the device.

    If their copy has begun, the device waits for it before the work that is queued next; the host
    does not wait. The batch gives up its samples, so that their memory can be freed if the batch
    does not fit and is split in halves.
    """
    if not isinstance(batch, Staged) or batch.samples is None:
        return to_device(end_to_end(batch), device)
    samples, batch.samples = batch.samples, None
    computing = torch.cuda.current_stream()
    computing.wait_event(batch.arrived)
    samples.record_stream(computing)  # else the allocator may reuse their memory too early
    return samples if batch.places is None else torch.cat([samples[p] for p in batch.places])


def some_of(batch: Sequence[Audio], indices: Sequence[int]) -> Sequence[Audio]:
    """The items of these indices, in order. A copy that has begun moves to the returned batch."""
    some = [batch[i] for i in indices]
    if not isinstance(batch, Staged) or batch.samples is None or batch.places is not None:
        return some
    ends = np.cumsum([len(audio) for audio in batch]).tolist()
    staged = Staged(some)
    staged.samples, batch.samples = batch.samples, None
    staged.arrived = batch.arrived
    staged.places = [slice(ends[i] - len(batch[i]), ends[i]) for i in indices]
    return staged


def end_to_end(batch: Sequence[Audio]) -> Tensor:
    """The samples of all items, (n_samples of all,) int16 on the CPU."""
    return torch.from_numpy(np.concatenate(batch))
