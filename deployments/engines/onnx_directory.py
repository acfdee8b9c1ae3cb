"""What an exported directory holds, and the small JSON file that says how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

MARKER = "paraformer_onnx.json"  # by which the store of weights knows such a directory
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Export:
    """How the graphs were made, and the numbers beside them that decide what is said."""

    source: str  # the directory's name
    funasr_class: str
    sha256: str  # of the checkpoint
    dtype: str  # "fp32" or "int8", of the weights of the large layers
    weight_bits: int  # 32, 8, or 7: for processors whose 8-bit products saturate
    max_frames: int  # of 60 ms, that the encoder has places for
    threshold: float  # at which a token fires
    tail_threshold: float  # the weight after the last frame
    silent_ids: tuple[int, ...]  # tokens that are not said
    versions: Mapping[str, str]
    format: int = FORMAT


def write_export(directory: Path, export: Export) -> None:
    """Puts the record beside the graphs."""
    text = json.dumps(asdict(export), indent=2, ensure_ascii=False)
    (directory / MARKER).write_text(f"{text}\n", "utf-8")


def read_export(directory: Path) -> Export:
    """The record. Raises OSError where there is none, ValueError where it is not ours."""
    text = (directory / MARKER).read_text("utf-8")
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        return Export(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{MARKER}: {error}") from error
