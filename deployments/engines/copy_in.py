"""The next batch's samples go to the GPU while this one computes: pinned memory, a second stream.

On a CPU there is nothing to copy, and a batch stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deployments.core.types import Audio
from deployments.engines.packed import to_device


class Staged(tuple[Audio, ...]):
    """A batch whose samples are on their way to the GPU; a slice of it is an ordinary batch."""

    samples: Tensor | None  # (n_samples of all,) int16, on the device; None once they were taken
    arrived: torch.cuda.Event
    places: list[slice] | None = None  # of the items in the samples; None: all of the samples


class CopyIn:
    """Starts copies to a device, on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        on_card = device.type == "cuda"
        self._stream = torch.cuda.Stream() if on_card else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Sequence[Audio]) -> Sequence[Audio]:
        """The same batch, its copy begun. Raises torch's errors, also where memory runs out."""
        if self._stream is None:
            return batch
        with torch.cuda.stream(self._stream):
            staged = Staged(batch)
            staged.samples = to_device(end_to_end(batch), self._device)
            staged.arrived = self._stream.record_event()
        return staged


def samples_of(batch: Sequence[Audio], device: torch.device) -> Tensor:
    """The samples end to end, (n_samples of all,) int16, for the work that is asked for next.

    Where their copy has begun, the device waits for it; the host does not. They are taken out of
    the batch, so that their memory is free where it is halved.
    """
    if not isinstance(batch, Staged) or batch.samples is None:
        return to_device(end_to_end(batch), device)
    samples, batch.samples = batch.samples, None
    computing = torch.cuda.current_stream()
    computing.wait_event(batch.arrived)
    samples.record_stream(computing)  # else their memory may be given away too early
    return samples if batch.places is None else torch.cat([samples[p] for p in batch.places])


def some_of(batch: Sequence[Audio], indices: Sequence[int]) -> Sequence[Audio]:
    """The items of these indices, in order; a copy that has begun is theirs from now on."""
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
    """(n_samples of all,) int16 on the CPU."""
    return torch.from_numpy(np.concatenate(batch))
