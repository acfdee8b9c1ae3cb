"""The files of an exported Paraformer, and the JSON record that says how it was exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

MARKER = "paraformer_onnx.json"  # `deployments/weights` recognises an export by this file
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Export:
    """How the graphs were exported, and the numbers that are needed to run them."""

    source: str  # the name of the exported model's directory
    funasr_class: str
    sha256: str  # of the exported model's checkpoint
    dtype: str  # "fp32" or "int8", of the weights of the large layers
    weight_bits: int  # 32, 8, or 7 for processors whose 8-bit products saturate
    max_frames: int  # of 60 ms, for which the encoder has positions
    threshold: float  # at which a token fires
    tail_threshold: float  # the weight of the frame that is added after the last
    silent_ids: tuple[int, ...]  # tokens that are no text
    versions: Mapping[str, str]
    format: int = FORMAT


def write_export(directory: Path, export: Export) -> None:
    """Writes the record beside the graphs."""
    text = json.dumps(asdict(export), indent=2, ensure_ascii=False)
    (directory / MARKER).write_text(f"{text}\n", "utf-8")


def read_export(directory: Path) -> Export:
    """The record. Raises OSError if there is none, ValueError if it cannot be read."""
    text = (directory / MARKER).read_text("utf-8")
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        return Export(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{MARKER}: {error}") from error
