"""The exported graphs compared with the torch engine, and the command that writes them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from benchmarks.engines.agreement import agreement
from benchmarks.material import random_models
from benchmarks.material.random_models import Asr, Size
from deployments.core.errors import EngineFailed, ModelUnavailable
from deployments.core.types import Audio, Hints
from deployments.engines.families import ENGINES, engine_class
from deployments.engines.paraformer import export_onnx
from deployments.engines.paraformer import onnx_engine as paraformer_onnx
from deployments.engines.paraformer.export_onnx import IN_FLOAT, cli, export
from deployments.engines.paraformer.onnx_directory import DECODER, ENCODER, MARKER
from deployments.engines.paraformer.onnx_engine import ParaformerOnnx
from deployments.engines.paraformer.readings import Reading
from deployments.engines.protocols import EngineSettings
from deployments.weights.identify import identify
from deployments.weights.store import ensure
from tests.engines.conftest import Case, segments
from tests.engines.paraformer.test_engine import SILENT_OR_SHORT
from tests.engines.reference import differences

NO_HINTS = Hints()
MAX_TIES = 0.005
INT8_AGREEMENT = 0.9  # of the words; in tiny random networks the best tokens are close


@dataclass(frozen=True)
class Exported:
    """A case, and its model exported in both number formats."""

    case: Case
    fp32_dir: Path
    int8_dir: Path

    def engine(self, dtype: str) -> ParaformerOnnx:
        model_dir = {"fp32": self.fp32_dir, "int8": self.int8_dir}[dtype]
        return ParaformerOnnx(model_dir, EngineSettings(dtype="int8"))


@pytest.fixture(scope="module", params=["seaco", "bicif"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case: Case = request.getfixturevalue(f"{request.param}_case")
    root = tmp_path_factory.mktemp(f"onnx-{request.param}")
    found = Exported(case, root / "fp32", root / "deep" / "int8")
    export(case.model_dir, found.fp32_dir, int8=False)
    # 7 bits are exact on every processor, so the result does not depend on the machine.
    export(case.model_dir, found.int8_dir, int8=True, weight_bits=7)
    return found


def read_in_batches(engine: ParaformerOnnx, audios: Sequence[Audio], seed: int) -> list[Reading]:
    """The readings of all audios, in order, from batches that are drawn at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(audios))
    cuts = np.sort(rng.choice(len(audios), size=len(audios) // 8, replace=False))
    readings = [Reading()] * len(audios)
    for batch in np.split(order, cuts):
        found = engine.read([audios[i] for i in batch], NO_HINTS)
        for index, reading in zip(batch, found, strict=True):
            readings[index] = reading
    return readings


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_float_graphs_read_in_any_batch_as_the_torch_engine_alone(
    exported: Exported, seed: int
) -> None:
    audios, torch_engine = exported.case.audios, exported.case.engine
    expected = [torch_engine.read([audio], NO_HINTS)[0] for audio in audios]

    found = read_in_batches(exported.engine("fp32"), audios, seed)

    mismatches, ties = differences(torch_engine, audios, found, expected)
    assert mismatches == []
    assert len(ties) <= MAX_TIES * len(audios)


@pytest.mark.slow
def test_int8_graphs_read_the_same_in_any_batch_and_nearly_as_float(exported: Exported) -> None:
    audios, engine = exported.case.audios, exported.engine("int8")
    alone = [engine.read([audio], NO_HINTS)[0] for audio in audios]

    found = read_in_batches(engine, audios, seed=1)

    assert found == alone
    assert alone != exported.case.expected
    assert agreement(alone, exported.case.expected) > INT8_AGREEMENT


def test_what_decides_when_a_token_fires_stays_in_float(exported: Exported) -> None:
    nodes = {node.name: node.op_type for node in onnx.load(exported.int8_dir / ENCODER).graph.node}

    assert [nodes[name] for name in IN_FLOAT] == ["MatMul", "MatMul"]
    assert {"MatMulInteger", "DynamicQuantizeLSTM"} <= set(nodes.values())


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_neighbour_without_a_word_changes_nothing(exported: Exported, dtype: str) -> None:
    engine, audios = exported.engine(dtype), exported.case.audios[:4]

    found = engine.transcribe([*SILENT_OR_SHORT.values(), *audios], NO_HINTS)

    assert found[len(SILENT_OR_SHORT) :] == engine.transcribe(audios, NO_HINTS)
    assert {r.text for r in found[: len(SILENT_OR_SHORT)]} == {""}


def test_the_longest_segment_of_the_family_is_read(exported: Exported) -> None:
    n_samples = ENGINES["paraformer-onnx"].max_segment_ms * 16
    noise = np.random.default_rng(1).integers(-3000, 3000, n_samples).astype(np.int16)

    [recognition] = exported.engine("fp32").transcribe([noise], NO_HINTS)

    [expected] = exported.case.engine.transcribe([noise], NO_HINTS)
    assert recognition.text == expected.text


def test_what_is_longer_than_the_graph_fails_as_an_engine(exported: Exported) -> None:
    too_long = np.full(64 * 16_000, 1000, np.int16)

    with pytest.raises(EngineFailed, match="ONNX Runtime failed"):
        exported.engine("fp32").transcribe([too_long], NO_HINTS)


def test_the_engine_says_what_its_graphs_are_and_that_it_takes_no_hotwords(
    exported: Exported,
) -> None:
    infos = [exported.engine(dtype).info for dtype in ("fp32", "int8")]

    assert [(info.dtype, info.hints, info.has_word_times) for info in infos] == [
        ("fp32", (), True),
        ("int8", (), True),
    ]


def test_an_exported_directory_is_served_by_its_name(exported: Exported) -> None:
    weights = ensure(str(exported.int8_dir))

    assert (weights.family, weights.stage) == ("paraformer-onnx", "asr")
    assert identify(str(exported.int8_dir)).family == "paraformer-onnx"
    assert engine_class(weights.family) is ParaformerOnnx


def test_a_directory_without_a_graph_is_refused_by_name(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported.int8_dir, tmp_path / "cut")
    (tmp_path / "cut" / DECODER).unlink()

    with pytest.raises(ModelUnavailable, match=r"decoder\.onnx is missing"):
        ensure(str(tmp_path / "cut"))
    with pytest.raises(ModelUnavailable, match=r"decoder\.onnx does not exist"):
        ParaformerOnnx(tmp_path / "cut", EngineSettings())


@pytest.mark.parametrize(
    ("file", "content"), [(MARKER, b'{"format": 2}'), (MARKER, b"{"), (ENCODER, b"no graph")]
)
def test_a_broken_file_is_refused(
    exported: Exported, tmp_path: Path, file: str, content: bytes
) -> None:
    shutil.copytree(exported.fp32_dir, tmp_path / "broken")
    (tmp_path / "broken" / file).write_bytes(content)

    with pytest.raises(ModelUnavailable, match=file):
        ParaformerOnnx(tmp_path / "broken", EngineSettings())


def test_weights_that_would_saturate_here_are_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported.int8_dir, tmp_path / "eight")
    record = json.loads((tmp_path / "eight" / MARKER).read_text("utf-8"))
    (tmp_path / "eight" / MARKER).write_text(json.dumps(record | {"weight_bits": 8}), "utf-8")
    monkeypatch.setattr(paraformer_onnx, "weight_limit", lambda: 63)

    with pytest.raises(ModelUnavailable, match="--weight-bits 7"):
        ParaformerOnnx(tmp_path / "eight", EngineSettings())


def test_a_gpu_is_refused(exported: Exported) -> None:
    with pytest.raises(ModelUnavailable, match="does not run in"):
        ParaformerOnnx(exported.fp32_dir, EngineSettings(device="cuda"))


def test_the_command_writes_no_more_than_the_engine_needs(case: Case, tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, [str(case.model_dir), str(tmp_path / "out"), "--fp32"])

    assert ran.exit_code == 0, ran.output
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {ENCODER, DECODER, MARKER, "config.yaml", "am.mvn", "tokens.json"}
    record = json.loads((tmp_path / "out" / MARKER).read_text("utf-8"))
    assert (record["dtype"], len(record["sha256"])) == ("fp32", 64)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_the_command_overwrites_nothing(bicif_case: Case, tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, [str(bicif_case.model_dir), str(tmp_path)])

    assert ran.exit_code == 1
    assert "exists" in ran.output
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(
    bicif_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_onnx, "quantize_dynamic", full)

    with pytest.raises(OSError, match="No space"):
        export(bicif_case.model_dir, tmp_path / "out", int8=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=list(Asr))
def large_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A Paraformer of the true size: a gigabyte, and as much exported. Deleted after the test."""
    model_dir = random_models.write_paraformer(
        tmp_path / "asr", kind=request.param, size=Size.LARGE
    )
    yield Case(model_dir, segments(12, seed=3000, longest_ms=5000))
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_at_true_size_float_graphs_read_as_the_torch_engine(
    large_case: Case, tmp_path: Path
) -> None:
    export(large_case.model_dir, tmp_path / "fp32", int8=False)
    settings = EngineSettings(num_threads=os.cpu_count() or 1)
    engine = ParaformerOnnx(tmp_path / "fp32", settings)

    found = read_in_batches(engine, large_case.audios, seed=1)

    torch_engine = large_case.engine
    expected = [torch_engine.read([audio], NO_HINTS)[0] for audio in large_case.audios]
    mismatches, ties = differences(torch_engine, large_case.audios, found, expected)
    assert mismatches == []
    assert ties == []
