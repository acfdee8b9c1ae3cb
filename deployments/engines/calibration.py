"""How much audio a batch may hold: memory measured once for each kind of GPU, and remembered.

A few batches of the longest segments are run and the peaks fitted by a line,
`peak = fixed_bytes + bytes_per_s * padded_s`. The line is a property of the card, the number
format, the model's geometry and torch; what a replica may fill follows from it and from its share.
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

BATCH_SIZES = (1, 4, 8)  # segments of the longest kind
MARGIN = 0.1  # of the share: hotwords, fragments between blocks, kernels loaded later


@runtime_checkable
class Rehearsing(Protocol):
    """An engine that can be made to use the memory of a full batch."""

    info: EngineInfo
    geometry: str

    def rehearse(self, n_items: int, n_ms: int) -> None:
        """Raises OutOfMemory where so much does not fit."""
        ...


class MemoryProbe(Protocol):
    """Tells the most memory that was held since the last `reset`."""

    def reset(self) -> None: ...

    def peak_bytes(self) -> int: ...


class CudaMemory:
    """What torch's allocator has taken from the card: fragments and caches count."""

    def reset(self) -> None:
        free_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_reserved()


@dataclass(frozen=True, slots=True)
class Peak:
    """The memory that a batch took."""

    padded_s: float
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Need:
    """A straight line that no measured peak is above."""

    fixed_bytes: float
    bytes_per_s: float

    def budget_s(self, share_bytes: int) -> float:
        """Padded seconds that fit into the share beside the margin; 0 where nothing does."""
        return max(0.0, (share_bytes * (1 - MARGIN) - self.fixed_bytes) / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a need is true of."""

    gpu: str
    dtype: str
    geometry: str
    torch: str


def geometry_of(model: torch.nn.Module) -> str:
    """A short name for the shapes of a model's weights; their values do not matter."""
    shapes = [(name, tuple(weight.shape)) for name, weight in model.state_dict().items()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def fit(peaks: Sequence[Peak]) -> Need | None:
    """The least-squares line, raised so far that no peak is above it.

    None where there are fewer than two sizes or where more audio did not take more memory.
    """
    if len({peak.padded_s for peak in peaks}) < 2:
        return None
    padded_s = np.array([peak.padded_s for peak in peaks])
    n_bytes = np.array([peak.n_bytes for peak in peaks], np.float64)
    slope, intercept = np.polynomial.polynomial.polyfit(padded_s, n_bytes, 1)[::-1]
    if slope < 1:  # a byte a second
        return None
    above = float((n_bytes - (intercept + slope * padded_s)).max())
    return Need(float(intercept) + max(0.0, above), float(slope))


def measure(
    engine: Rehearsing, probe: MemoryProbe, sizes: Sequence[int] = BATCH_SIZES
) -> tuple[list[Peak], bool]:
    """The peaks of growing batches of the longest segments, and whether memory ran out.

    The first, smallest batch is run twice: what is loaded on first use is no batch's.
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
    """What was remembered of the kind; None where nothing was, or nothing that can be read."""
    try:
        kept: Any = json.loads(_file(directory, kind).read_text("utf-8"))
        need = Need(float(kept["fixed_bytes"]), float(kept["bytes_per_s"]))
        return need if kept["kind"] == asdict(kind) and need.bytes_per_s > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_need(directory: Path, kind: Kind, need: Need, peaks: Sequence[Peak]) -> None:
    """Remembers it; replicas that start together may do so at once. Raises OSError."""
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
    """The padded audio that a batch may hold, remembered or measured; None where unknown.

    `share_bytes` is all that the process may allocate, weights included.
    """
    need = read_need(directory, kind)
    if need is not None:
        return round(need.budget_s(share_bytes) * 1000)
    peaks, ran_out = measure(engine, probe)
    need = fit(peaks)
    if need is None:  # a share that holds hardly more than the weights
        longest_s = engine.info.max_segment_ms / 1000
        most_s = max((peak.padded_s for peak in peaks), default=longest_s)
        return round(most_s * 1000) if ran_out else None
    try:
        write_need(directory, kind, need, peaks)
    except OSError as error:
        logger.warning("The calibration of %s cannot be kept: %s", kind.gpu, error)
    return round(need.budget_s(share_bytes) * 1000)


def cuda_budget_ms(engine: object, settings: EngineSettings, directory: Path) -> int | None:
    """`budget_ms` of an engine on this process's GPU and its fraction; None where it has none."""
    if settings.device != "cuda" or not isinstance(engine, Rehearsing):
        return None
    gpu = torch.cuda.get_device_name()
    kind = Kind(gpu, settings.dtype, engine.geometry, str(torch.__version__))
    with contextlib.suppress(OutOfMemory):  # a small share may hold less than the longest segment
        engine.rehearse(1, engine.info.max_segment_ms)  # the context has all its libraries after it
    share_bytes = limit_memory(settings)
    found = budget_ms(engine, CudaMemory(), kind=kind, directory=directory, share_bytes=share_bytes)
    free_cache()
    return found
