"""sherpa-onnx and funasr-onnx, which a CPU user would pick instead of the engine.

Both are optional (the extra `bench`) and read FunASR's own ONNX export (`rival_export.py`).
The export knows no hotwords: a SeACo model is exported without its hotword layers, with otherwise
the same weights. It computes word times, as the engine does. This file imports no torch, so that
`start.py` can measure a rival alone.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import say
from deployments.core.types import SAMPLE_RATE_HZ, Audio

# The name of a figure, the package that it needs, and the graph that it reads.
RIVALS = {
    "sherpa": ("sherpa_onnx", "model_quant.onnx"),  # as FunASR quantises: unsigned weights
    "sherpa_s8": ("sherpa_onnx", "model_s8.onnx"),  # symmetric weights, which are faster
    "funasr_onnx": ("funasr_onnx", "model_quant.onnx"),
}
Read: TypeAlias = Callable[[Audio], str]  # the text of one segment


def installed(rivals: Mapping[str, tuple[str, str]] = MappingProxyType(RIVALS)) -> tuple[str, ...]:
    """The rivals whose packages are here. Says which are left out, and why."""
    found = []
    for name, (package, _) in rivals.items():
        if importlib.util.find_spec(package) is None:
            say(f"Without {name}: the package {package} is not installed (extra `bench`).")
        else:
            found.append(name)
    return tuple(found)


def as_floats(audio: Audio) -> NDArray[np.float32]:
    """The samples as (n_samples,) float32, -1..1."""
    return audio.astype(np.float32) / np.float32(32768)


def reader(name: str, export_dir: Path) -> Read:
    """The rival of this name on one thread."""
    package, graph = RIVALS[name]
    make = sherpa_reader if package == "sherpa_onnx" else funasr_onnx_reader
    return make(export_dir, graph)


def sherpa_reader(export_dir: Path, graph: str) -> Read:
    """sherpa-onnx, one segment at a time."""
    import sherpa_onnx

    recogniser: Any = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=str(export_dir / graph), tokens=str(export_dir / "tokens.txt"), num_threads=1
    )

    def read(audio: Audio) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(SAMPLE_RATE_HZ, as_floats(audio))
        recogniser.decode_stream(stream)
        text: str = stream.result.text
        return text

    return read


def funasr_onnx_reader(export_dir: Path, graph: str) -> Read:
    """funasr-onnx, one segment at a time."""
    with redirect_stdout(io.StringIO()):
        from funasr_onnx import Paraformer

        model: Any = Paraformer(str(export_dir), quantize=True, intra_op_num_threads=1)
    assert graph == "model_quant.onnx"  # the name is fixed in the package

    def read(audio: Audio) -> str:
        with redirect_stdout(io.StringIO()):
            results = model(as_floats(audio))
        return str(results[0]["preds"]) if results else ""

    return read
