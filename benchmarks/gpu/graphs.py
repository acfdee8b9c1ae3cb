"""An experiment: Paraformer's encoder compiled, and as a CUDA graph, in buckets of fixed shapes.

A graph is recorded for one shape, so every batch must have the shape of its bucket. Filler items
are put behind the batch until the numbers of rows and items are the bucket's. All items are padded
to the bucket's longest. Rows of different items never mix, so the batch's own rows keep their
values but for rounding. The time is that of the work that a service would do for each batch. It
covers making the layout (eager) or refilling it (a bucket), and the encoder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import measures
from benchmarks.gpu.checks import Bench
from benchmarks.results import Figures
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.device import free_cache
from deployments.engines.half import HALF
from deployments.engines.packed import Rows
from deployments.engines.paraformer import sanm
from deployments.engines.paraformer.engine import CLASSES, FRAME_MS

Run = Callable[[], Tensor]  # runs the encoder over the batch in a bucket; gives (n_rows, dim)
Way = Callable[[Run], Run]  # makes a run that gives the same result in another way

SEED = 5
ROUNDS = 9
BEFORE_CAPTURE = 3  # runs, in which libraries load and choose their kernels
A_PART = 10  # items of a bucket are at most 1 / A_PART shorter than its longest


@dataclass(frozen=True, slots=True)
class Bucket:
    """A shape for batches of up to `n_items` items, none longer than `longest_s`."""

    n_items: int
    longest_s: int

    @property
    def longest(self) -> int:
        """The longest item in rows of the encoder."""
        return self.longest_s * 1000 // FRAME_MS

    @property
    def n_fillers(self) -> int:
        """Filler items, enough to replace the rows that shorter items lack."""
        return self.n_items // A_PART + 1

    @property
    def n_rows(self) -> int:
        """The rows of a full bucket. Even then each filler has one row."""
        return self.n_items * self.longest + self.n_fillers

    def filled(self, lengths: Sequence[int]) -> list[int]:
        """The lengths, followed by those of the fillers.

        There are `n_items + n_fillers` lengths; their sum is `n_rows`. Raises ValueError where the
        batch does not fit, or leaves more rows than its fillers can hold.
        """
        n_fillers = self.n_items + self.n_fillers - len(lengths)
        n_left = self.n_rows - sum(lengths)
        if max(lengths) > self.longest or not n_fillers <= n_left <= n_fillers * self.longest:
            raise ValueError(f"{len(lengths)} items of {sum(lengths)} rows are not of {self}.")
        each, more = divmod(n_left, n_fillers)
        return [*lengths, *([each + 1] * more), *([each] * (n_fillers - more))]


# From little work, where the host may be slower than the GPU, to a full batch of 1200 s.
BUCKETS = (Bucket(1, 5), Bucket(1, 30), Bucket(8, 10), Bucket(32, 10), Bucket(40, 30))


class BucketRows(Rows):
    """A padded layout of a bucket's shape, which makes no decision by the lengths on the host."""

    def __init__(self, bucket: Bucket, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(bucket.filled(lengths), device, by_item=False)
        self.longest = bucket.longest
        self.tensors = self.mask, self._flat_places  # made here, not while a graph is recorded

    @property
    def is_even(self) -> bool:
        return False


class Held:
    """A bucket at fixed addresses, which a batch is copied into, and the encoder over it."""

    def __init__(self, encoder: Any, bucket: Bucket, dtype: torch.dtype, device: str) -> None:
        self._encoder, self._bucket, self._dtype = encoder, bucket, dtype
        full = [bucket.longest] * bucket.n_items
        self._rows = BucketRows(bucket, full, torch.device(device))
        width = encoder.encoders0[0].in_size
        self._placed = torch.zeros(bucket.n_rows, width, device=device)

    def hold(self, placed: Tensor, lengths: Sequence[int]) -> None:
        """Copies a batch in; fillers keep their old rows. Raises ValueError as `filled` does."""
        other = BucketRows(self._bucket, lengths, self._rows.device)
        for ours, theirs in zip(self._rows.tensors, other.tensors, strict=True):
            ours.copy_(theirs)
        self._placed[: len(placed)].copy_(placed)

    def run(self) -> Tensor:
        return sanm.encode(self._encoder, self._placed, self._rows, self._dtype)


def compiled(run: Run) -> Run:
    """The run with its layers compiled by `torch.compile`; layers of one shape share the code."""
    torch.compiler.reset()
    layer = torch.compile(sanm._encoder_layer, fullgraph=True, dynamic=False)

    def call() -> Tensor:
        with patch.object(sanm, "_encoder_layer", layer):
            return run()

    return call


def captured(run: Run) -> Run:
    """The run as a CUDA graph. The next call overwrites the tensor that a call returns."""
    ours, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(ours)
    with torch.cuda.stream(aside):
        for _ in range(BEFORE_CAPTURE):
            run()
    ours.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            hidden = run()
    except Exception:
        torch.cuda.set_stream(ours)  # a capture that fails may leave its own stream current
        raise

    def replay() -> Tensor:
        graph.replay()
        return hidden

    return replay


BUCKETED: dict[str, Way] = {"bucket": lambda run: run}  # eager: shows the cost of the bucket itself
ON_GPU: dict[str, Way] = {
    "compiled": compiled,
    "captured": captured,
    "compiled_captured": lambda run: captured(compiled(run)),
}


def graphs(bench: Bench) -> Figures:
    """The encoder's time for a batch of each of BUCKETS, eager and in the other ways."""
    device, dtype = bench.setup.device, HALF.get(bench.setup.dtype, torch.float32)
    ways = BUCKETED | (ON_GPU if device == "cuda" else {})
    try:
        model: Any = load_checkpoint(bench.setup.models / "asr", "asr", classes=CLASSES).model
        encoder = model.encoder.to(device=device, dtype=dtype)
        figures = compare(encoder, dtype, device, BUCKETS, ways)
    except Exception as error:  # the failure of an experiment is a result; the benchmark goes on
        figures = {"graphs_error": said(error)}
    missing = ", ".join(way for way in ON_GPU if way not in ways)
    return figures | ({"graphs_not_available": missing} if missing else {})


@torch.inference_mode()
def compare(
    encoder: Any,
    dtype: torch.dtype,
    device: str,
    buckets: Sequence[Bucket],
    ways: Mapping[str, Way],
) -> Figures:
    """The figures of each way in each bucket.

    `graphs_error` names those that fail; the others go on.
    """
    figures: Figures = {}
    errors = []
    # A failed capture may break what runs after it. So each way runs in all buckets before the next
    # way, and the ways that capture are the last.
    for way, make in {"eager": None, **ways}.items():
        for bucket in buckets:
            name = f"graphs_{bucket.n_items}x{bucket.longest_s}s_{way}"
            try:
                found = measured(encoder, bucket, dtype, device, make)
            except Exception as error:  # as in `graphs`: a failure is a result
                errors.append(f"{name}: {said(error)}")
            else:
                figures |= {f"{name}_{of}": value for of, value in found.items()}
    return figures | ({"graphs_error": "; ".join(errors)} if errors else {})


def measured(
    encoder: Any, bucket: Bucket, dtype: torch.dtype, device: str, make: Way | None
) -> Figures:
    """The figures of one way in one bucket; `make` is None for eager without a bucket.

    Eager has only its time. Any other way also has its largest difference from eager, the seconds
    that making it took, and the memory that it keeps. The difference is that of a batch copied in
    after the way was made. Raises ArithmeticError where the difference is not finite.
    """
    first, (placed, lengths) = batches(encoder, bucket, device)

    def eager() -> Tensor:
        return sanm.encode(encoder, placed, Rows(lengths, placed.device, by_item=False), dtype)

    if make is None:
        return {"ms": ms(eager, device)}
    held = Held(encoder, bucket, dtype, device)
    held.hold(*first)
    held_bytes, began_s = reserved_bytes(device), time.perf_counter()
    run = make(held.run)
    run()
    measures.synchronize(device)
    made_s = time.perf_counter() - began_s
    kept_mib = (reserved_bytes(device) - held_bytes) / measures.MIB

    def in_bucket() -> Tensor:
        held.hold(placed, lengths)
        return run()[: len(placed)]

    difference = (in_bucket().float() - eager().float()).abs().max().item()
    if not math.isfinite(difference):
        raise ArithmeticError(f"it differs from eager by {difference}")
    figures: Figures = {"ms": ms(in_bucket, device), "diff": difference, "made_s": made_s}
    return figures | ({"mib": kept_mib} if device == "cuda" else {})


def ms(work: Run, device: str) -> float:
    """The median time of a call in milliseconds."""
    return 1000 * measures.seconds(work, device, repeats=ROUNDS)


def batches(encoder: Any, bucket: Bucket, device: str) -> list[tuple[Tensor, list[int]]]:
    """Two batches for the bucket: input with the scale of normalised features, and lengths."""
    rng = np.random.default_rng(SEED)
    shortest, width = bucket.longest - bucket.longest // A_PART, encoder.encoders0[0].in_size
    made = []
    for _ in range(2):
        lengths = rng.integers(shortest, bucket.longest + 1, bucket.n_items).tolist()
        noise = torch.from_numpy(rng.standard_normal((sum(lengths), width), np.float32))
        made.append((noise.to(device) * encoder.output_size() ** 0.5, lengths))
    return made


def reserved_bytes(device: str) -> int:
    """The card's memory that torch's allocator holds after it has returned its cache."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    free_cache()
    return torch.cuda.memory_reserved()


def said(error: Exception) -> str:
    """The error's type and first line, as a figure."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[:200]}"
