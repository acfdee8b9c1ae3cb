"""Measures how much audio a batch may hold, once for each kind of GPU, and keeps the result.

A few batches of the longest segments are run. A line is fitted to their memory peaks,
`peak = fixed_bytes + bytes_per_s * padded_s`. The line depends on the card, the number format, the
shapes of the model's weights and the version of torch. A replica's budget follows from this line
and from the replica's share of the card.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from deployments.core.errors import OutOfMemory
from deployments.core.types import EngineInfo
from deployments.engines.device import free_cache, limit_memory
from deployments.engines.protocols import EngineSettings

logger = logging.getLogger("ray.serve")

BATCH_SIZES = (1, 4, 8)  # segments of the greatest length
MARGIN = 0.1  # of the share, left free for hotwords, fragmentation and kernels that load later


@runtime_checkable
class Rehearsing(Protocol):
    """An engine that can use the memory of a full batch without audio to transcribe."""

    info: EngineInfo
    geometry: str

    def rehearse(self, n_items: int, n_ms: int) -> None:
        """Uses the memory of `n_items` segments of `n_ms`. Raises OutOfMemory if it runs out."""
        ...


class MemoryProbe(Protocol):
    """Measures the peak of memory since the last `reset`."""

    def reset(self) -> None: ...

    def peak_bytes(self) -> int: ...


class CudaMemory:
    """The memory that torch's allocator holds on the card, its cache and fragments included."""

    def reset(self) -> None:
        free_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_reserved()


@dataclass(frozen=True, slots=True)
class Peak:
    """The peak of memory of one batch."""

    padded_s: float
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Need:
    """The memory that batches need: a straight line with no measured peak above it."""

    fixed_bytes: float
    bytes_per_s: float

    def budget_s(self, share_bytes: int) -> float:
        """The padded seconds that fit into the share less the margin; 0 if nothing fits."""
        return max(0.0, (share_bytes * (1 - MARGIN) - self.fixed_bytes) / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Kind:
    """The circumstances that a measured `Need` is valid for."""

    gpu: str
    dtype: str
    geometry: str
    torch: str


def geometry_of(model: torch.nn.Module) -> str:
    """A hash of the shapes of a model's weights. Their values do not matter."""
    shapes = [(name, tuple(weight.shape)) for name, weight in model.state_dict().items()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def fit(peaks: Sequence[Peak]) -> Need | None:
    """The least-squares line through the peaks, raised until no peak is above it.

    None if there are fewer than two sizes, or if more audio did not take more memory.
    """
    if len({peak.padded_s for peak in peaks}) < 2:
        return None
    padded_s = np.array([peak.padded_s for peak in peaks])
    n_bytes = np.array([peak.n_bytes for peak in peaks], np.float64)
    slope, intercept = np.polynomial.polynomial.polyfit(padded_s, n_bytes, 1)[::-1]
    if slope < 1:  # byte per padded second
        return None
    above = float((n_bytes - (intercept + slope * padded_s)).max())
    return Need(float(intercept) + max(0.0, above), float(slope))


def measure(
    engine: Rehearsing, probe: MemoryProbe, sizes: Sequence[int] = BATCH_SIZES
) -> tuple[list[Peak], bool]:
    """The peaks of ever larger batches of the longest segments, and whether memory ran out.

    The smallest batch runs twice. Its first run is not measured, because it also loads libraries.
    """
    n_ms, peaks = engine.info.max_segment_ms, list[Peak]()
    try:
        engine.rehearse(sizes[0], n_ms)
        for n_items in sizes:
            probe.reset()
            engine.rehearse(n_items, n_ms)
            peaks.append(Peak(n_items * n_ms / 1000, probe.peak_bytes()))
    except OutOfMemory:
        return peaks, True
    return peaks, False


def read_need(directory: Path, kind: Kind) -> Need | None:
    """The stored line for this kind; None if there is none or it cannot be read."""
    try:
        kept: Any = json.loads(_file(directory, kind).read_text("utf-8"))
        need = Need(float(kept["fixed_bytes"]), float(kept["bytes_per_s"]))
        return need if kept["kind"] == asdict(kind) and need.bytes_per_s > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_need(directory: Path, kind: Kind, need: Need, peaks: Sequence[Peak]) -> None:
    """Stores the line. Several replicas may do so at the same time. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"kind": asdict(kind), **asdict(need), "peaks": [asdict(peak) for peak in peaks]}
    with NamedTemporaryFile("w", dir=directory, suffix=".part", delete=False) as part:
        part.write(json.dumps(content, indent=1))
    os.replace(part.name, _file(directory, kind))


def _file(directory: Path, kind: Kind) -> Path:
    name = hashlib.sha256(json.dumps(asdict(kind), sort_keys=True).encode()).hexdigest()
    return directory / f"{name[:16]}.json"


def budget_ms(
    engine: Rehearsing, probe: MemoryProbe, *, kind: Kind, directory: Path, share_bytes: int
) -> int | None:
    """The padded audio that a batch may hold, stored or measured now; None if unknown.

    `share_bytes` is all memory that the process may allocate, the weights included.
    """
    need = read_need(directory, kind)
    if need is not None:
        return round(need.budget_s(share_bytes) * 1000)
    peaks, ran_out = measure(engine, probe)
    need = fit(peaks)
    if need is None:  # the share holds hardly more than the weights
        longest_s = engine.info.max_segment_ms / 1000
        most_s = max((peak.padded_s for peak in peaks), default=longest_s)
        return round(most_s * 1000) if ran_out else None
    try:
        write_need(directory, kind, need, peaks)
    except OSError as error:
        logger.warning("The calibration of %s cannot be kept: %s", kind.gpu, error)
    return round(need.budget_s(share_bytes) * 1000)


def cuda_budget_ms(engine: object, settings: EngineSettings, directory: Path) -> int | None:
    """`budget_ms` for this process's share of its GPU; None if it has no GPU or cannot measure."""
    if settings.device != "cuda" or not isinstance(engine, Rehearsing):
        return None
    gpu = torch.cuda.get_device_name()
    kind = Kind(gpu, settings.dtype, engine.geometry, str(torch.__version__))
    # This rehearsal loads the libraries, so that `limit_memory` counts their memory. The longest
    # segment may not fit into a small share.
    with contextlib.suppress(OutOfMemory):
        engine.rehearse(1, engine.info.max_segment_ms)
    share_bytes = limit_memory(settings)
    found = budget_ms(engine, CudaMemory(), kind=kind, directory=directory, share_bytes=share_bytes)
    free_cache()
    return found
