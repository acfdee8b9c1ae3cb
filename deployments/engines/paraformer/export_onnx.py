"""Exports a Paraformer for ONNX Runtime, as a command.

    python -m deployments.engines.paraformer.export_onnx MODEL_DIR OUT_DIR

Writes a directory with all files that the engine `paraformer-onnx` needs. Name that directory in
`models.asr`. int8 quantisation is dynamic: weights have a scale for each output, activations have
one for each call. The layers that decide when a token fires stay in float32. Needs the packages
`onnx` and `onnxruntime`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import onnx
import torch
import typer
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from deployments.core.errors import ModelUnavailable
from deployments.engines.checkpoint import Checkpoint, load_checkpoint
from deployments.engines.families import ENGINES
from deployments.engines.features import N_MELS
from deployments.engines.paraformer.engine import CLASSES, FRAME_MS
from deployments.engines.paraformer.onnx_directory import (
    DECODER,
    ENCODER,
    MARKER,
    Export,
    write_export,
)
from deployments.engines.paraformer.onnx_graphs import DecoderGraph, EncoderGraph
from deployments.engines.paraformer.sanm import check_supported

OPSET = 17  # the first opset in which LayerNormalization is one operation
KEPT = ("config.yaml", "am.mvn", "tokens.json")
QUANTISED = ("MatMul", "LSTM")  # not Conv: quantised it is slower than in float
IN_FLOAT = ("/cif_output/MatMul", "/cif_output2/MatMul")
PACKAGES = ("torch", "funasr", "onnx", "onnxruntime")


def export(model_dir: Path, out_dir: Path, *, int8: bool, weight_bits: int = 8) -> Export:
    """Writes the directory, whole or not at all, and returns its record.

    Raises FileExistsError if `out_dir` exists, ModelUnavailable if the model is not a SeACo- or
    BiCif-Paraformer as published.
    """
    if out_dir.exists():
        raise FileExistsError(f"{out_dir} exists; name a directory that does not.")
    checkpoint = load_checkpoint(model_dir, model_dir.name, classes=CLASSES)
    check_supported(checkpoint.model, model_dir.name)
    _check_files(model_dir)
    made = _describe(model_dir, checkpoint, int8=int8, weight_bits=weight_bits)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}.", dir=out_dir.parent) as name:
        staging = Path(name) / "whole"
        staging.mkdir()
        for file in KEPT:
            shutil.copyfile(model_dir / file, staging / file)
        for graph, path in _graphs(checkpoint, made, staging):
            if int8:
                _quantise(graph, path, seven_bits=weight_bits == 7)
            else:
                graph.replace(path)
        write_export(staging, made)
        os.rename(staging, out_dir)
    return made


def _check_files(model_dir: Path) -> None:
    missing = [name for name in KEPT if not (model_dir / name).is_file()]
    if missing:
        raise ModelUnavailable(model_dir.name, f"{model_dir} has no {', '.join(missing)}.")


def _describe(model_dir: Path, checkpoint: Checkpoint, *, int8: bool, weight_bits: int) -> Export:
    model = checkpoint.model
    with Path(checkpoint.config["init_param"]).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    longest_ms = ENGINES["paraformer-onnx"].max_segment_ms
    return Export(
        source=model_dir.resolve().name,
        funasr_class=checkpoint.config["model"],
        sha256=sha256,
        dtype="int8" if int8 else "fp32",
        weight_bits=weight_bits if int8 else 32,
        max_frames=longest_ms // FRAME_MS + 2,
        threshold=float(model.predictor.threshold),
        tail_threshold=float(model.predictor.tail_threshold),
        silent_ids=(model.sos, model.eos, model.blank_id),
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
    )


def _graphs(checkpoint: Checkpoint, made: Export, into: Path) -> Sequence[tuple[Path, Path]]:
    """Writes both graphs in float32. Returns for each its path and the path it must end up at."""
    model = checkpoint.model
    dim = checkpoint.lfr_m * N_MELS
    lengths, n_tokens = torch.tensor([20, 13]), torch.tensor([5, 3])
    features = torch.zeros(2, 20, dim)
    hidden = torch.zeros(2, 20, model.encoder.output_size())
    items, frames, tokens = {0: "n_items"}, {0: "n_items", 1: "frames"}, {0: "n_items", 1: "tokens"}
    encoder_in = {"features": (features, frames), "lengths": (lengths, items)}
    encoder_out = {
        "hidden": frames,
        "alphas": frames,
        "upsampled": {0: "n_items", 1: "upsampled_frames"},
    }
    decoder_in = {
        "acoustic": (hidden[:, :5], tokens),
        "n_tokens": (n_tokens, items),
        "hidden": (hidden, frames),
        "lengths": (lengths, items),
    }
    encoder = EncoderGraph(model, max_frames=made.max_frames, dim=dim)
    _write(encoder, into / "encoder.float", encoder_in, encoder_out)
    _write(DecoderGraph(model), into / "decoder.float", decoder_in, {"ids": tokens})
    return [
        (into / "encoder.float", into / ENCODER),
        (into / "decoder.float", into / DECODER),
    ]


def _write(
    graph: nn.Module,
    path: Path,
    inputs: Mapping[str, tuple[torch.Tensor, dict[int, str]]],
    outputs: Mapping[str, dict[int, str]],
) -> None:
    axes = {name: axes for name, (_, axes) in inputs.items()} | dict(outputs)
    with torch.inference_mode(), warnings.catch_warnings():
        # torch's new exporter (dynamo) fails on packed sequences. The old one warns that it is old.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            tuple(example for example, _ in inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
        )


def _quantise(graph: Path, path: Path, *, seven_bits: bool) -> None:
    nodes: Any = onnx.load(str(graph), load_external_data=False).graph.node
    in_float = [node.name for node in nodes if node.name in IN_FLOAT]
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # hides advice about a pass that speeds up nothing here
    try:
        quantize_dynamic(
            str(graph),
            str(path),
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=in_float,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=seven_bits,
        )
    finally:
        logging.root.setLevel(level)
    graph.unlink()


def main(
    model_dir: Annotated[Path, typer.Argument(help="FunASR's directory of SeACo or BiCif.")],
    out_dir: Annotated[Path, typer.Argument(help="To be made; it must not exist.")],
    int8: Annotated[
        bool, typer.Option("--int8/--fp32", help="Weights of the large layers.")
    ] = True,
    weight_bits: Annotated[
        int,
        typer.Option(min=7, max=8, help="7 for processors without VNNI, whose sums saturate."),
    ] = 8,
) -> None:
    """Export a Paraformer for ONNX Runtime, the engine `paraformer-onnx`: CPU, no hotwords."""
    try:
        made = export(model_dir, out_dir, int8=int8, weight_bits=weight_bits)
    except (FileExistsError, ModelUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    n_mib = sum(file.stat().st_size for file in out_dir.iterdir()) / 1024**2
    typer.echo(f"{out_dir}: {made.funasr_class}, {made.dtype}, {n_mib:.0f} MiB; see {MARKER}.")


cli = typer.Typer(add_completion=False)
cli.command()(main)

if __name__ == "__main__":
    cli(prog_name="python -m deployments.engines.paraformer.export_onnx")
