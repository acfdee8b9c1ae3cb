"""Loads a FunASR model directory into FunASR's own module classes, without its `AutoModel`.

If a checkpoint lacks keys, `AutoModel` prints them and goes on with random weights. It skips
tensors of another shape, and downloads models that it does not find. Here each of these raises
`ModelUnavailable`, which names the keys and the remedy. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yaml import YAMLError

from deployments.core.errors import ModelUnavailable
from deployments.engines.calibration import geometry_of
from deployments.engines.features import N_MELS, read_cmvn
from deployments.engines.funasr_models import import_package, model_class, quiet_import
from deployments.engines.pieces import (
    PIECE_BYTES,
    Adapt,
    WithoutValues,
    as_it_is,
    fill,
    give_memory_back,
    pieces,
)
from deployments.engines.weights_file import is_archive, read_weights

import_package()
with quiet_import():
    from funasr.utils.postprocess_utils import sentence_postprocess
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

__all__ = ["Checkpoint", "build", "load_checkpoint", "sentence_postprocess"]

# The features that features.py computes. A model that was trained on others is refused.
FRONTEND = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
# Layers that a checkpoint may hold and that FunASR drops at inference. SeACo checkpoints that were
# fine-tuned before March 2024 hold `bias_embed`, which no code of FunASR's ever read.
NOT_USED = ("ctc.", "criterion", "bias_embed.")
# The files of a directory that has no configuration.json.
USUAL_FILES = {
    "init_param": "model.pt",
    "config": "config.yaml",
    "tokenizer_conf": {"token_list": "tokens.json"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
    "jieba_usr_dict": "jieba_usr_dict",
}
# Keys of the config that are not options of the network. FunASR would load the dictionary into
# jieba's global state.
NOT_FOR_THE_MODEL = ("model", "model_conf", "jieba_usr_dict")
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    pickle.UnpicklingError,
    YAMLError,
    OmegaConfBaseException,
)
MAX_KEYS_SHOWN = 5
REFETCH = "Fetch it again with `python -m deployments.weights fetch`, or point to the directory of"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model in eval mode, and the facts about it that stand in its directory."""

    model: Any  # a FunASR torch.nn.Module
    config: Mapping[str, Any]
    tokens: tuple[str, ...]  # empty if the model has none
    cmvn: Tensor | None  # (2, lfr_m * n_mels)
    lfr_m: int
    lfr_n: int
    seg_dict: Path | None  # spells words in tokens, for hotwords; SeACo only
    geometry: str  # see `geometry_of`


def load_checkpoint(
    model_dir: Path, name: str, *, classes: Iterable[str], adapt: Adapt = as_it_is
) -> Checkpoint:
    """The model in `model_dir`, whose config must name one of `classes`.

    The weights are read piece by piece. After each piece `adapt` may replace layers by smaller
    ones; see `load_weights`. `name` is only used in error messages. Raises ModelUnavailable if a
    file is missing or unreadable, if the class or the features are not supported, or if the
    weights do not fit.
    """
    with refuse_as_unavailable(name, model_dir):
        config = read_config(model_dir)
        if config.get("model") not in tuple(classes):
            raise ModelUnavailable(
                name,
                f"{model_dir} holds a {config.get('model')!r}. Name the directory of one of "
                f"{', '.join(classes)}.",
            )
        frontend = config.get("frontend_conf") or {}
        check_frontend(frontend, name)
        tokens = read_tokens(config)
        lfr_m, lfr_n = int(frontend.get("lfr_m", 1)), int(frontend.get("lfr_n", 1))
        cmvn_file = frontend.get("cmvn_file")
        cmvn = read_cmvn(Path(cmvn_file)) if cmvn_file else None
        if cmvn is not None and cmvn.shape[1] != lfr_m * N_MELS:
            raise ValueError(f"am.mvn has {cmvn.shape[1]} values, not {lfr_m * N_MELS}")
        with WithoutValues():
            model = build(config, input_size=lfr_m * N_MELS, vocab_size=len(tokens))
        geometry = geometry_of(model)
        load_weights(model, Path(config["init_param"]), name, adapt)
    seg_dict = Path(cmvn_file).parent / "seg_dict" if cmvn_file else None
    return Checkpoint(
        model=model.eval().requires_grad_(False),
        config=config,
        tokens=tokens,
        cmvn=cmvn,
        lfr_m=lfr_m,
        lfr_n=lfr_n,
        seg_dict=seg_dict if seg_dict and seg_dict.is_file() else None,
        geometry=geometry,
    )


@contextlib.contextmanager
def refuse_as_unavailable(name: str, model_dir: Path) -> Any:
    """Turns the errors of a broken directory into ModelUnavailable, which names the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        missing = error.filename or error
        raise ModelUnavailable(name, f"{missing} does not exist. {REFETCH} {name}.") from error
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelUnavailable(
            name, f"{model_dir} cannot be read ({reason}). {REFETCH} {name}."
        ) from error


def read_config(model_dir: Path) -> dict[str, Any]:
    """`config.yaml` with the paths of the directory's files, merged as FunASR's loader does it."""
    metas_file = model_dir / "configuration.json"
    metas = {}
    if metas_file.is_file():
        metas = json.loads(metas_file.read_text("utf-8")).get("file_path_metas", {})
    config_file = model_dir / metas.get("config", "config.yaml")
    config: Any = OmegaConf.to_container(OmegaConf.load(config_file), resolve=True)
    files = absolute_paths(metas or USUAL_FILES, model_dir)
    for key, value in files.items():
        if isinstance(value, dict):
            config[key] = {**(config.get(key) or {}), **value}
        else:
            config[key] = value
    config.setdefault("init_param", str(model_dir / "model.pt"))
    return dict(config)


def absolute_paths(metas: Mapping[str, Any], model_dir: Path) -> dict[str, Any]:
    """`file_path_metas` with absolute paths, without the files that do not exist."""
    paths: dict[str, Any] = {}
    for key, value in metas.items():
        if isinstance(value, Mapping):
            nested = absolute_paths(value, model_dir)
            paths.update({key: nested} if nested else {})
        elif isinstance(value, str) and (model_dir / value).exists():
            paths[key] = str(model_dir / value)
    return paths


def check_frontend(frontend: Mapping[str, Any], name: str) -> None:
    """Raises ModelUnavailable if the model wants other features than features.py computes.

    `dither` is ignored. It is noise that FunASR adds by default, and that we never add.
    """
    wrong = {
        key: frontend[key] for key, ours in FRONTEND.items() if frontend.get(key, ours) != ours
    }
    if wrong:
        raise ModelUnavailable(name, f"its frontend_conf wants {wrong}; supported is {FRONTEND}.")


def read_tokens(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The vocabulary, in the order of the ids; empty if the model has none."""
    path = (config.get("tokenizer_conf") or {}).get("token_list")
    if path is None:
        return ()
    if str(path).endswith(".json"):
        return tuple(json.loads(Path(path).read_text("utf-8")))
    return tuple(line.rstrip() for line in Path(path).read_text("utf-8").splitlines())


def build(config: Mapping[str, Any], *, input_size: int, vocab_size: int) -> torch.nn.Module:
    """The FunASR module that the config describes, with untrained weights."""
    options = {
        **(config.get("model_conf") or {}),
        **{key: value for key, value in config.items() if key not in NOT_FOR_THE_MODEL},
        "input_size": input_size,
        "vocab_size": vocab_size,
    }
    model: torch.nn.Module = model_class(config)(**options)
    return model


def load_weights(
    model: torch.nn.Module,
    path: Path,
    name: str,
    adapt: Adapt = as_it_is,
    *,
    piece_bytes: int = PIECE_BYTES,
) -> None:
    """Loads the weights of `path` piece by piece into a model that was built `WithoutValues`.

    After each piece `adapt` gets the model. So a whole model in float32 is never in memory if
    `adapt` makes its layers smaller. Raises ModelUnavailable if a key or a shape does not fit.
    """
    stored = read_weights(path, name)
    wanted = model.state_dict()
    check_fit(stored, wanted, path, name)
    is_mapped = is_archive(path)
    for piece in pieces(model, piece_bytes):
        # Mapped anew for each piece: the pages that were read stay in memory until it is unmapped.
        stored = read_weights(path, name) if is_mapped else stored
        for layer_name in piece:
            fill(model.get_submodule(layer_name), layer_name, stored)
        adapt(model)
        give_memory_back()


def check_fit(
    stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, name: str
) -> None:
    """Raises ModelUnavailable if a key is missing, unknown or of another shape."""
    problems = {
        "missing": [key for key in wanted if key not in stored],
        "unexpected": [key for key in stored if key not in wanted and not key.startswith(NOT_USED)],
        "mis-shaped": [
            f"{key} {tuple(stored[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in wanted
            if key in stored and stored[key].shape != wanted[key].shape
        ],
    }
    found = [f"{kind}: {shorten(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise ModelUnavailable(
            name,
            f"{path} does not fit its config.yaml ({'; '.join(found)}). {REFETCH} {name}.",
        )


def shorten(keys: list[str]) -> str:
    """The first few keys, and the number of the others."""
    more = len(keys) - MAX_KEYS_SHOWN
    shown = ", ".join(keys[:MAX_KEYS_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
