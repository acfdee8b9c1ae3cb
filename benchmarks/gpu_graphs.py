"""An experiment: Paraformer's encoder compiled, and as a CUDA graph, in buckets of fixed shapes.

A graph is recorded for one shape, so a batch is brought to its bucket's: items of filler are put
behind it until rows and items are the bucket's, and all are padded to the bucket's longest. Rows
never mix across items, so the batch's own stay what they are but for rounding. Timed is what a
service would do for each batch: the layout (eager) or its refilling (a bucket), and the encoder.
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

from benchmarks import gpu_measures as measures
from benchmarks.gpu_checks import Bench
from benchmarks.results import Figures
from deployments.engines import sanm
from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.device import free_cache
from deployments.engines.half import HALF
from deployments.engines.packed import Rows
from deployments.engines.paraformer import CLASSES, FRAME_MS

Run = Callable[[], Tensor]  # the encoder over what a bucket holds, (n_rows, dim)
Way = Callable[[Run], Run]  # another that does the same

SEED = 5
ROUNDS = 9
BEFORE_CAPTURE = 3  # runs in which libraries load and choose their kernels
A_PART = 10  # a bucket's items are shorter than its longest by at most one in so many


@dataclass(frozen=True, slots=True)
class Bucket:
    """A shape that batches of up to `n_items` are brought to, none longer than `longest_s`."""

    n_items: int
    longest_s: int

    @property
    def longest(self) -> int:
        """In rows of the encoder."""
        return self.longest_s * 1000 // FRAME_MS

    @property
    def n_fillers(self) -> int:
        """Enough for what the items lack."""
        return self.n_items // A_PART + 1

    @property
    def n_rows(self) -> int:
        """With a row for each filler where the items lack nothing."""
        return self.n_items * self.longest + self.n_fillers

    def filled(self, lengths: Sequence[int]) -> list[int]:
        """The lengths and behind them the fillers', `n_items + n_fillers` with `n_rows` in all.

        Raises ValueError where the batch does not fit or leaves more than its fillers can hold.
        """
        n_fillers = self.n_items + self.n_fillers - len(lengths)
        n_left = self.n_rows - sum(lengths)
        if max(lengths) > self.longest or not n_fillers <= n_left <= n_fillers * self.longest:
            raise ValueError(f"{len(lengths)} items of {sum(lengths)} rows are not of {self}.")
        each, more = divmod(n_left, n_fillers)
        return [*lengths, *([each + 1] * more), *([each] * (n_fillers - more))]


# Few launches' worth of work, where the host may be the slower one, up to a full batch of 1200 s.
BUCKETS = (Bucket(1, 5), Bucket(1, 30), Bucket(8, 10), Bucket(32, 10), Bucket(40, 30))


class BucketRows(Rows):
    """A padded layout of a bucket's shape: what the host would decide by the lengths is pinned."""

    def __init__(self, bucket: Bucket, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(bucket.filled(lengths), device, by_item=False)
        self.longest = bucket.longest
        self.tensors = self.mask, self._flat_places  # made now, not while a graph is recorded

    @property
    def is_even(self) -> bool:
        return False


class Held:
    """A batch in a bucket, at fixed addresses, and the encoder over it."""

    def __init__(self, encoder: Any, bucket: Bucket, dtype: torch.dtype, device: str) -> None:
        self._encoder, self._bucket, self._dtype = encoder, bucket, dtype
        full = [bucket.longest] * bucket.n_items
        self._rows = BucketRows(bucket, full, torch.device(device))
        width = encoder.encoders0[0].in_size
        self._placed = torch.zeros(bucket.n_rows, width, device=device)

    def hold(self, placed: Tensor, lengths: Sequence[int]) -> None:
        """Writes a batch in; filler keeps the rows it had. Raises ValueError as `filled`."""
        other = BucketRows(self._bucket, lengths, self._rows.device)
        for ours, theirs in zip(self._rows.tensors, other.tensors, strict=True):
            ours.copy_(theirs)
        self._placed[: len(placed)].copy_(placed)

    def run(self) -> Tensor:
        return sanm.encode(self._encoder, self._placed, self._rows, self._dtype)


def compiled(run: Run) -> Run:
    """One layer through `torch.compile`, shared by all layers of its shape."""
    torch.compiler.reset()
    layer = torch.compile(sanm._encoder_layer, fullgraph=True, dynamic=False)

    def call() -> Tensor:
        with patch.object(sanm, "_encoder_layer", layer):
            return run()

    return call


def captured(run: Run) -> Run:
    """A CUDA graph of it; what it returns is overwritten by the next call."""
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
        torch.cuda.set_stream(ours)  # a capture that fails may leave its own in place
        raise

    def replay() -> Tensor:
        graph.replay()
        return hidden

    return replay


BUCKETED: dict[str, Way] = {"bucket": lambda run: run}  # eager: what the bucket itself costs
ON_GPU: dict[str, Way] = {
    "compiled": compiled,
    "captured": captured,
    "compiled_captured": lambda run: captured(compiled(run)),
}


def graphs(bench: Bench) -> Figures:
    """What a batch takes in the encoder, eager and otherwise, in each of BUCKETS."""
    device, dtype = bench.setup.device, HALF.get(bench.setup.dtype, torch.float32)
    ways = BUCKETED | (ON_GPU if device == "cuda" else {})
    try:
        model: Any = load_checkpoint(bench.setup.models / "asr", "asr", classes=CLASSES).model
        encoder = model.encoder.to(device=device, dtype=dtype)
        figures = compare(encoder, dtype, device, BUCKETS, ways)
    except Exception as error:  # an experiment's failure is its finding, and ends no benchmark
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
    """Each bucket's figures; what fails is named in `graphs_error`, and the others go on."""
    figures: Figures = {}
    errors = []
    for way, make in {"eager": None, **ways}.items():  # a capture that fails meets no other way
        for bucket in buckets:
            name = f"graphs_{bucket.n_items}x{bucket.longest_s}s_{way}"
            try:
                found = measured(encoder, bucket, dtype, device, make)
            except Exception as error:  # see `graphs`
                errors.append(f"{name}: {said(error)}")
            else:
                figures |= {f"{name}_{of}": value for of, value in found.items()}
    return figures | ({"graphs_error": "; ".join(errors)} if errors else {})


def measured(
    encoder: Any, bucket: Bucket, dtype: torch.dtype, device: str, make: Way | None
) -> Figures:
    """Of one way in one bucket, None being eager without it: time, and what comes with the way.

    That is the largest difference from eager, in a batch that came after the way was made, the
    seconds that making it took, and the memory that it keeps. Raises ArithmeticError where the
    difference is no number.
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
    """Of a call, the median."""
    return 1000 * measures.seconds(work, device, repeats=ROUNDS)


def batches(encoder: Any, bucket: Bucket, device: str) -> list[tuple[Tensor, list[int]]]:
    """Two of the bucket: input of the scale of normalised features, and lengths."""
    rng = np.random.default_rng(SEED)
    shortest, width = bucket.longest - bucket.longest // A_PART, encoder.encoders0[0].in_size
    made = []
    for _ in range(2):
        lengths = rng.integers(shortest, bucket.longest + 1, bucket.n_items).tolist()
        noise = torch.from_numpy(rng.standard_normal((sum(lengths), width), np.float32))
        made.append((noise.to(device) * encoder.output_size() ** 0.5, lengths))
    return made


def reserved_bytes(device: str) -> int:
    """What torch's allocator holds of the card when it has given back what it can."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    free_cache()
    return torch.cuda.memory_reserved()


def said(error: Exception) -> str:
    """Its kind and first line, for a figure."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[:200]}"
