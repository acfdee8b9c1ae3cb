"""Exports a Paraformer with FunASR's own exporter, for sherpa-onnx and funasr-onnx to read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch
import yaml
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.engines.automodel import AutoModelAlone, quiet
from benchmarks.material.model_files import write_directory
from deployments.engines.checkpoint import build, read_config, read_tokens
from deployments.engines.features import N_MELS, read_cmvn
from deployments.engines.weights_file import read_weights

# Keys of config.yaml that are the hotword layers' own.
SEACO_ONLY = ("seaco_decoder", "seaco_decoder_conf")


def export_for_rivals(model_dir: Path, out_dir: Path) -> Path:
    """Writes the graphs of RIVALS with all files that they need; returns the directory.

    Takes a minute and 3 GB of memory for a model of the true geometry.
    """
    without_hotwords(model_dir, out_dir)
    # torch's newer exporter, its default, fails on this model.
    old_exporter = functools.partial(torch.onnx.export, dynamo=False)
    with mock.patch.object(torch.onnx, "export", old_exporter), quiet():
        AutoModelAlone(out_dir).export(out_dir)
    whole = out_dir / "model.onnx"
    names = [node.name for node in onnx.load(whole, load_external_data=False).graph.node]
    quantize_dynamic(
        model_input=whole,
        model_output=out_dir / "model_s8.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[name for name in names if "output" in name],  # as FunASR does
    )
    whole.unlink()
    tokens = read_tokens(read_config(out_dir))
    lines = "".join(f"{token} {number}\n" for number, token in enumerate(tokens))
    (out_dir / "tokens.txt").write_text(lines, "utf-8")
    for graph in ("model_quant.onnx", "model_s8.onnx"):
        add_metadata(out_dir / graph, read_config(out_dir), len(tokens))
    return out_dir


def without_hotwords(model_dir: Path, out_dir: Path) -> None:
    """Writes the model as a BiCif-Paraformer: the same weights without those for hotwords."""
    source = read_config(model_dir)
    config = yaml.safe_load((model_dir / "config.yaml").read_text("utf-8"))
    config = {key: value for key, value in config.items() if key not in SEACO_ONLY}
    config["model"] = "BiCifParaformer"
    tokens = read_tokens(source)
    dim = int(source["frontend_conf"].get("lfr_m", 1)) * N_MELS
    model = build(config, input_size=dim, vocab_size=len(tokens))
    stored = read_weights(Path(source["init_param"]), model_dir.name)
    model.load_state_dict({key: stored[key] for key in model.state_dict()})
    write_directory(out_dir, config, model, tokens, Path(source["frontend_conf"]["cmvn_file"]))


def add_metadata(graph: Path, config: Mapping[str, Any], vocab_size: int) -> None:
    """Adds to the graph what sherpa-onnx reads from it, as k2-fsa's own script does."""
    frontend = config["frontend_conf"]
    shift, scale = read_cmvn(Path(frontend["cmvn_file"])).tolist()
    model = onnx.load(graph)
    for key, value in {
        "model_type": "paraformer",
        "vocab_size": vocab_size,
        "lfr_window_size": frontend["lfr_m"],
        "lfr_window_shift": frontend["lfr_n"],
        "neg_mean": ",".join(map(repr, shift)),
        "inv_stddev": ",".join(map(repr, scale)),
    }.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(model, graph)
