"""Weights are loaded piece by piece, with the result of loading them at once."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deployments.engines.checkpoint import (
    build,
    load_checkpoint,
    load_weights,
    read_config,
    read_tokens,
)
from deployments.engines.funasr_models import MODULES, PARTS
from deployments.engines.paraformer.engine import CLASSES
from deployments.engines.paraformer.int8 import Int8Linear, for_cpu
from deployments.engines.paraformer.linears import PrepackedLinear
from deployments.engines.pieces import WithoutValues, as_it_is, pieces
from tests.engines.conftest import Case

SIZES = (1, 3_000, 20_000, 10**9)  # bytes: a layer at a time, some at a time, all at once
# A process of its own, because the tests before may have imported all of FunASR.
IMPORTED = """
import sys
from pathlib import Path
from deployments.engines.families import engine_class
from deployments.engines.protocols import EngineSettings
for family, path in zip(("paraformer", "fsmn-vad", "ct-transformer"), sys.argv[1:], strict=True):
    engine_class(family)(Path(path), EngineSettings())
print(*sys.modules)
"""


def empty_model(model_dir: Path) -> nn.Module:
    config = read_config(model_dir)
    with WithoutValues():
        return build(config, input_size=560, vocab_size=len(read_tokens(config)))


def loaded(model_dir: Path, adapt: Callable[[nn.Module], None], piece_bytes: int) -> nn.Module:
    model = empty_model(model_dir)
    load_weights(model, model_dir / "model.pt", "tiny", adapt, piece_bytes=piece_bytes)
    return model.eval().requires_grad_(False)


def outputs(model: nn.Module, of: nn.Module) -> dict[str, torch.Tensor]:
    """What each layer of `model` answers that is an `nn.Linear` in `of`, and its LSTM."""
    inputs = {
        name: torch.linspace(-1, 1, layer.in_features)[None]
        for name, layer in of.named_modules()
        if type(layer) is nn.Linear
    }
    heard = {name: model.get_submodule(name)(given) for name, given in inputs.items()}
    states = torch.linspace(-1, 1, 160).view(1, 5, 32)
    return heard | {"lstm": model.get_submodule("predictor.blstm")(states)[0]}


@pytest.mark.parametrize("piece_bytes", SIZES)
def test_a_model_without_values_has_its_own_after_loading(case: Case, piece_bytes: int) -> None:
    stored = torch.load(case.model_dir / "model.pt", weights_only=True)

    found = loaded(case.model_dir, as_it_is, piece_bytes).state_dict()

    assert found.keys() == stored.keys()
    assert all(torch.equal(found[key], stored[key]) for key in stored)


def test_a_model_without_values_takes_no_memory(case: Case) -> None:
    assert {weight.device.type for weight in empty_model(case.model_dir).parameters()} == {"meta"}


@pytest.mark.parametrize("dtype", ["int8", "fp32"])
@pytest.mark.parametrize("piece_bytes", SIZES[:-1])
def test_layers_adapted_piece_by_piece_are_those_adapted_at_once(
    case: Case, dtype: str, piece_bytes: int
) -> None:
    at_once: Any = load_checkpoint(case.model_dir, "tiny", classes=CLASSES).model
    for_cpu(dtype)(at_once)
    plain = empty_model(case.model_dir)

    model = loaded(case.model_dir, for_cpu(dtype), piece_bytes)

    found, expected = outputs(model, plain), outputs(at_once, plain)
    assert len(found) > 20
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    kinds = {type(layer) for layer in model.modules()}
    assert nn.Linear not in kinds
    assert (Int8Linear in kinds) == (dtype == "int8")
    assert PrepackedLinear in kinds


def test_a_layer_that_was_replaced_is_freed_before_the_next_piece(case: Case) -> None:
    replaced: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    def adapt(model: nn.Module) -> None:
        alive.append(sum(layer() is not None for layer in replaced))
        full = [m for m in model.modules() if type(m) is nn.Linear and not m.weight.is_meta]
        replaced.extend(map(weakref.ref, full))
        for_cpu("fp32")(model)

    loaded(case.model_dir, adapt, 1)

    assert len(replaced) > 20
    assert set(alive) == {0}


@pytest.mark.parametrize("piece_bytes", SIZES)
def test_every_layer_is_in_one_piece_in_order(case: Case, piece_bytes: int) -> None:
    model = empty_model(case.model_dir)

    made = pieces(model, piece_bytes)

    assert [name for piece in made for name in piece] == [name for name, _ in model.named_modules()]
    assert (len(made) == 1) == (piece_bytes == SIZES[-1])


def test_a_buffer_that_is_computed_and_not_stored_stays(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 3)
            self.own = nn.Parameter(torch.zeros(2))
            self.register_buffer("table", torch.arange(4.0), persistent=False)
            self.register_buffer("stored", torch.zeros(2))

    weights = {"inner.weight": torch.ones(3, 2), "inner.bias": torch.ones(3)}
    weights |= {"own": torch.ones(2), "stored": torch.full((2,), 5.0)}
    torch.save(weights, tmp_path / "model.pt")
    with WithoutValues():
        model = Scaled()

    load_weights(model, tmp_path / "model.pt", "scaled", piece_bytes=1)

    assert model.table.tolist() == [0, 1, 2, 3]
    assert model.stored.tolist() == [5, 5]
    assert model.own.tolist() == [1, 1]
    assert model.inner(torch.ones(1, 2)).tolist() == [[3, 3, 3]]


def test_weights_saved_as_parameters_keep_nothing_of_training(case: Case, tmp_path: Path) -> None:
    stored = torch.load(case.model_dir / "model.pt", weights_only=True)
    torch.save({key: nn.Parameter(value) for key, value in stored.items()}, tmp_path / "model.pt")
    model = empty_model(case.model_dir)

    load_weights(model, tmp_path / "model.pt", "tiny", for_cpu("int8"), piece_bytes=3_000)

    assert all(weight.is_leaf for weight in model.parameters())
    assert torch.equal(
        model.state_dict()["encoder.after_norm.weight"], stored["encoder.after_norm.weight"]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_another_number_format_are_loaded_in_the_models(
    case: Case, tmp_path: Path, dtype: torch.dtype
) -> None:
    stored = torch.load(case.model_dir / "model.pt", weights_only=True)
    torch.save({key: value.to(dtype) for key, value in stored.items()}, tmp_path / "model.pt")
    model = empty_model(case.model_dir)

    load_weights(model, tmp_path / "model.pt", "tiny", piece_bytes=3_000)

    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_the_parts_of_our_models_need_no_other_module_of_funasr(
    case: Case, tiny_vad_dir: Path, punctuation_dir: Path
) -> None:
    configs = [read_config(path) for path in (case.model_dir, tiny_vad_dir, punctuation_dir)]

    named = {config[key] for config in configs for key in ("model", *PARTS) if config.get(key)}
    assert named <= MODULES.keys()


@pytest.mark.slow
def test_engines_import_only_the_modules_of_their_models(
    case: Case, tiny_vad_dir: Path, punctuation_dir: Path
) -> None:
    paths = map(str, (case.model_dir, tiny_vad_dir, punctuation_dir))

    told = subprocess.run(
        [sys.executable, "-c", IMPORTED, *paths], capture_output=True, text=True, check=True
    )

    modules = set(told.stdout.split())
    assert "funasr.models.bicif_paraformer.model" in modules
    assert not {"funasr.models.whisper.model", "funasr.auto.auto_model", "fastapi"} & modules
    assert "torch._dynamo" not in modules
