"""Whether the encoder is faster compiled, or replayed as a CUDA graph; for a card to answer.

A graph needs fixed shapes, and a batch's are not: a bucket has so many rows and items of at most
so many rows. What a batch leaves of it is filled by further items, of which nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import gpu_measures as measures
from benchmarks.gpu_checks import Bench
from benchmarks.gpu_pipeline import batches_of
from benchmarks.results import Figures
from deployments.core.types import Audio
from deployments.engines.packed import Rows, to_device
from deployments.engines.paraformer import Paraformer

GRAIN_ROWS = 64  # a bucket's rows are a multiple: at most so many are computed for nothing
WARM_UP = 3  # before a capture


class Bucket(Rows):
    """A layout whose tensors keep their shapes and addresses whatever batch is in it."""

    def __init__(self, frames: Rows) -> None:
        """As small as holds this batch."""
        self.n_rows = -(-(sum(frames.lengths) + 1) // GRAIN_ROWS) * GRAIN_ROWS
        longest = frames.longest
        n_items = len(frames.lengths) + -(-self.n_rows // longest)
        super().__init__([longest] * n_items, frames.device, by_item=False)
        device = frames.device
        # Under the names of what `Rows` makes once for each batch.
        self.__dict__ |= {
            "places": torch.zeros(self.n_rows, dtype=torch.int64, device=device),
            "_flat_places": torch.zeros(self.n_rows, dtype=torch.int64, device=device),
            "mask": torch.zeros(n_items, longest, dtype=torch.bool, device=device),
        }

    @property
    def is_even(self) -> bool:
        """False: the items' lengths are others for each batch."""
        return False

    def fill(self, lengths: Sequence[int]) -> None:
        """Lays a batch's items out, and behind them those that fill the bucket."""
        left = self.n_rows - sum(lengths)
        n_full, rest = divmod(left, self.longest)
        every = [*lengths, *[self.longest] * n_full, *[rest] * bool(rest)]
        every += [0] * (len(self.lengths) - len(every))
        places = np.concatenate([np.arange(n) for n in every])
        first = np.repeat(np.arange(len(every)), every) * self.longest
        mask = np.arange(self.longest) < np.array(every)[:, None]
        found = {"places": places, "_flat_places": first + places, "mask": mask}
        for name, values in found.items():
            tensor: Tensor = self.__dict__[name]
            tensor.copy_(to_device(torch.from_numpy(values), self.device), non_blocking=True)

    def padded(self, features: Tensor) -> Tensor:
        """(n_rows of the bucket, dim): the batch's rows, and zeros."""
        filled = features.new_zeros(self.n_rows, features.shape[1])
        filled[: len(features)] = features
        return filled


def graphs(bench: Bench) -> Figures:
    """The encoder on one segment, on eight and on a full batch, each way, in milliseconds."""
    pieces = sorted(bench.pieces(), key=len)
    middle = len(pieces) // 2
    budget_ms = bench.pipeline.runner().budget_ms
    cases = {
        "1": pieces[middle : middle + 1],
        "8": pieces[middle : middle + 8],
        "full": [pieces[i] for i in batches_of(pieces, budget_ms)[0]],
    }
    figures: Figures = {}
    for name, batch in cases.items():
        found = encoder_figures(bench.pipeline.asr, batch, bench.setup.device)
        figures |= {f"graphs_{name}_{key}": value for key, value in found.items()}
    return figures


@torch.inference_mode()
def encoder_figures(asr: Paraformer, batch: Sequence[Audio], device: str) -> Figures:
    """Times of one batch's encoder; what a way fails with is a figure, too."""
    features, frames = asr.features(batch)
    bucket = Bucket(frames)
    bucket.fill(frames.lengths)
    padded = bucket.padded(features)
    n_rows = len(features)
    expected = asr.hidden(features, frames).float()

    def encode() -> Tensor:
        return asr.hidden(padded, bucket)

    ways: dict[str, Callable[[], Callable[[], Tensor]]] = {"bucket": lambda: encode}
    if device == "cuda":
        ways["compiled"] = lambda: torch.compile(encode, dynamic=False)
        ways["graph"] = lambda: captured(encode)
    eager_s = measures.seconds(lambda: asr.hidden(features, frames), device)
    figures: Figures = {
        "rows": n_rows,
        "bucket_rows": bucket.n_rows,
        "eager_ms": eager_s * 1000,
    }
    for name, make in ways.items():
        before_mib = memory_mib(device)
        try:
            way = make()
            difference = (way()[:n_rows].float() - expected).abs().max().item()
            figures[f"{name}_ms"] = measures.seconds(way, device) * 1000
        except Exception as error:  # an experiment: what it cannot do is its result
            figures[f"{name}_error"] = f"{type(error).__name__}: {error}"[:200]
            continue
        figures[f"{name}_speedup"] = eager_s * 1000 / float(figures[f"{name}_ms"])
        figures[f"{name}_largest_difference"] = difference
        figures[f"{name}_memory_mib"] = memory_mib(device) - before_mib
    return figures


def captured(encode: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Replays what `encode` asks of the card; its result is overwritten by the next replay."""
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            encode()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = encode()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def memory_mib(device: str) -> float:
    """Reserved by torch on the card."""
    return torch.cuda.memory_reserved() / 2**20 if device == "cuda" else 0.0
