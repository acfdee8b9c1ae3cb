"""Loads a FunASR model directory into FunASR's own module classes, without its `AutoModel`.

`AutoModel` prints the keys that a checkpoint lacks and goes on with random weights, skips tensors
of another shape, and downloads what it does not find. Here each of these is a `ModelUnavailable`
that names the keys and the remedy, and nothing is fetched.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yaml import YAMLError

from deployments.core.errors import ModelUnavailable
from deployments.engines.features import N_MELS, read_cmvn

# FunASR imports all of its models, prints about optional parts, and takes a warning that is
# turned into an error for a missing part.
with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import funasr  # noqa: F401  (fills the tables)
    from funasr.register import tables
    from funasr.utils.postprocess_utils import sentence_postprocess
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

__all__ = ["Checkpoint", "build", "load_checkpoint", "sentence_postprocess"]

# What features.py computes; a model trained on anything else must not be fed with it.
FRONTEND = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
# Heads that FunASR drops at inference although they may be in the file.
TRAINING_ONLY = ("ctc.", "criterion")
# Where a directory has no configuration.json
USUAL_FILES = {
    "init_param": "model.pt",
    "config": "config.yaml",
    "tokenizer_conf": {"token_list": "tokens.json"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
    "jieba_usr_dict": "jieba_usr_dict",
}
# Not options of the network; FunASR would load the dictionary into jieba's global state.
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
    """A loaded model in eval mode, with what its directory says about it."""

    model: Any  # a FunASR torch.nn.Module
    config: Mapping[str, Any]
    tokens: tuple[str, ...]  # empty where the model has none
    cmvn: Tensor | None  # (2, lfr_m * n_mels)
    lfr_m: int
    lfr_n: int
    seg_dict: Path | None  # how to spell hotwords, SeACo only


def load_checkpoint(model_dir: Path, name: str, *, classes: Iterable[str]) -> Checkpoint:
    """The model in `model_dir`, whose config must name one of `classes`.

    `name` is only said in errors. Raises ModelUnavailable where a file is missing or unreadable,
    the class or the features are not ours, or the weights do not fit the model.
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
        model = build(config, input_size=lfr_m * N_MELS, vocab_size=len(tokens))
        load_weights(model, Path(config["init_param"]), name)
    seg_dict = Path(cmvn_file).parent / "seg_dict" if cmvn_file else None
    return Checkpoint(
        model=model.eval().requires_grad_(False),
        config=config,
        tokens=tokens,
        cmvn=cmvn,
        lfr_m=lfr_m,
        lfr_n=lfr_n,
        seg_dict=seg_dict if seg_dict and seg_dict.is_file() else None,
    )


@contextlib.contextmanager
def refuse_as_unavailable(name: str, model_dir: Path) -> Any:
    """Turns what a broken directory raises into a ModelUnavailable that names the remedy."""
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
    """`config.yaml` with the directory's files filled in, as FunASR's loader merges them."""
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
    """`file_path_metas` with the paths of the files that exist, nested as it was."""
    paths: dict[str, Any] = {}
    for key, value in metas.items():
        if isinstance(value, Mapping):
            nested = absolute_paths(value, model_dir)
            paths.update({key: nested} if nested else {})
        elif isinstance(value, str) and (model_dir / value).exists():
            paths[key] = str(model_dir / value)
    return paths


def check_frontend(frontend: Mapping[str, Any], name: str) -> None:
    """Raises ModelUnavailable where the model wants other features than features.py computes.

    `dither` is not looked at: it is noise that FunASR adds unless told not to, and never ours.
    """
    wrong = {
        key: frontend[key] for key, ours in FRONTEND.items() if frontend.get(key, ours) != ours
    }
    if wrong:
        raise ModelUnavailable(name, f"its frontend_conf wants {wrong}; supported is {FRONTEND}.")


def read_tokens(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The vocabulary, in the order of the ids; empty where the model has none."""
    path = (config.get("tokenizer_conf") or {}).get("token_list")
    if path is None:
        return ()
    if str(path).endswith(".json"):
        return tuple(json.loads(Path(path).read_text("utf-8")))
    return tuple(line.rstrip() for line in Path(path).read_text("utf-8").splitlines())


def build(config: Mapping[str, Any], *, input_size: int, vocab_size: int) -> torch.nn.Module:
    """The FunASR module that the config describes, with arbitrary weights."""
    options = {
        **(config.get("model_conf") or {}),
        **{key: value for key, value in config.items() if key not in NOT_FOR_THE_MODEL},
        "input_size": input_size,
        "vocab_size": vocab_size,
    }
    model: torch.nn.Module = tables.model_classes[config["model"]](**options)
    return model


def load_weights(model: torch.nn.Module, path: Path, name: str) -> None:
    """Fills the model from `path`; raises ModelUnavailable where a key or a shape does not fit."""
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        stored = stored.get(wrapper, stored)
    stored = {key.removeprefix("module."): value for key, value in stored.items()}
    wanted = model.state_dict()
    problems = {
        "missing": [key for key in wanted if key not in stored],
        "unexpected": [
            key for key in stored if key not in wanted and not key.startswith(TRAINING_ONLY)
        ],
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
    model.load_state_dict({key: stored[key] for key in wanted})


def shorten(keys: list[str]) -> str:
    """The first few keys, and how many more there are."""
    more = len(keys) - MAX_KEYS_SHOWN
    shown = ", ".join(keys[:MAX_KEYS_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
