"""The configuration model, the files that are deployed, and the choices for "auto"."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from cluster.planning.placement import Node
from deployments import app, resolve
from deployments import config as settings
from deployments.config import AppConfig, Models, Pool, Settings, VadStage
from deployments.core.errors import ModelUnavailable
from deployments.serve import load_config

ROOT = Path(__file__).parent.parent
FAKES: dict[str, Any] = {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"}
ONE_T4 = [Node(num_cpus=8, num_gpus=1, accelerator_type="T4")]
SECTIONS: list[type[BaseModel]] = [
    kind
    for kind in vars(settings).values()
    if isinstance(kind, type) and issubclass(kind, Settings) and kind is not Settings
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_description_that_ends_as_a_sentence(section: type[BaseModel]) -> None:
    described = {name: field.description or "" for name, field in section.model_fields.items()}

    assert [name for name, text in described.items() if not text.endswith(".")] == []


@pytest.mark.parametrize(
    ("file", "asr"), [("serve_config.yaml", "paraformer-zh"), ("demo.yaml", "auto")]
)
def test_the_shipped_files_are_valid_and_only_the_demo_may_fall_back(file: str, asr: str) -> None:
    config = load_config(ROOT / file)

    assert config.models.asr == asr


@pytest.mark.parametrize("file", ["serve_config.yaml", "demo.yaml"])
def test_serves_own_command_line_takes_the_shipped_files(file: str) -> None:
    document = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))

    schema = ServeDeploySchema.model_validate(document)

    assert [a.import_path for a in schema.applications] == ["deployments.app:build"]


def test_serve_turns_the_args_of_a_file_into_the_configuration() -> None:
    """Serve reads the annotation of `build`. If it is a string, `build` gets a plain dict."""
    annotation = inspect.signature(app.build).parameters["config"].annotation

    assert annotation is AppConfig


def test_the_fleet_in_the_comments_is_valid_too() -> None:
    text = (ROOT / "serve_config.yaml").read_text(encoding="utf-8")
    commented = text[text.index("      # vad:") :]
    document = yaml.safe_load(re.sub(r"(?m)^      # ?", "", commented))

    config = AppConfig.model_validate(document)

    assert config.pools != "auto"
    assert set(config.pools) == {"T4", "L4"}
    assert config.pools["L4"].max_replicas == 4


@pytest.mark.parametrize(
    "document",
    [
        {"modles": {}},
        {"models": {"asr_model": "x"}},
        {"pools": {"a": {"gpu": 1}}},
        {"pools": {}},
        {"pools": {"a/b": {}}},
        {"pools": {"a": {"min_replicas": 3, "max_replicas": 2}}},
        {"dtype": "float16"},
        {"dtype": "fp16", "pools": {"a": {"num_gpus": 0.5}, "b": {}}},
        {"dtype": "int8", "pools": {"a": {"num_gpus": 0.5}}},
        {"pools": {"vad": {}}},
        {"vad": {"min_replicas": 0}},
        {"limits": {"max_audio_hours": 0}},
        {"autoscaling": {"drain_s": 600, "give_back_after_s": 60}},
        {"router": {"max_held_audio_hours": 1}, "limits": {"max_audio_hours": 2}},
    ],
)
def test_a_typo_or_an_impossible_value_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AppConfig.model_validate(document)


def test_a_file_without_our_application_says_so(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("applications: [{name: a, import_path: other.app:build}]", encoding="utf-8")

    with pytest.raises(ValueError, match="exactly one application"):
        load_config(file)


def test_auto_on_a_gpu_machine_is_half_precision_with_fractions() -> None:
    config = AppConfig(models=Models(**FAKES))

    resolved, notes = resolve.resolve(config, ONE_T4)

    assert resolved.pools != "auto"
    pool = resolved.pools["T4"]
    assert (resolved.dtype, pool.accelerator_type, notes) == ("fp16", "T4", ())
    assert pool.num_gpus * pool.max_replicas + resolved.vad.num_gpus <= 1
    assert resolved.vad.num_gpus > 0
    assert resolved.punctuation.num_gpus > 0


def test_int8_runs_on_cpus_even_beside_a_gpu() -> None:
    resolved, _ = resolve.resolve(AppConfig(models=Models(**FAKES), dtype="int8"), ONE_T4)

    assert resolved.pools != "auto"
    assert (resolved.dtype, [p.num_gpus for p in resolved.pools.values()]) == ("int8", [0.0])


def test_a_cpu_pool_beside_a_gpu_keeps_all_in_full_precision() -> None:
    pools = {"T4": Pool(num_gpus=0.5, accelerator_type="T4"), "cpu": Pool()}

    resolved, _ = resolve.resolve(AppConfig(models=Models(**FAKES), pools=pools), ONE_T4)

    assert resolved.dtype == "fp32"


def test_auto_without_a_gpu_is_one_cpu_pool_in_full_precision() -> None:
    resolved, _ = resolve.resolve(AppConfig(models=Models(**FAKES)), [Node(num_cpus=2)])

    assert resolved.pools != "auto"
    assert set(resolved.pools) == {"cpu"}
    assert (resolved.dtype, resolved.vad.num_gpus) == ("fp32", 0.0)
    assert (resolved.vad.num_threads, resolved.pools["cpu"].num_threads) == (1, 1)


def test_a_stage_that_is_given_in_part_keeps_its_other_defaults() -> None:
    config = AppConfig.model_validate({"vad": {"num_threads": 2}, "punctuation": {"num_gpus": 0.1}})

    assert config.vad.num_cpus == AppConfig().vad.num_cpus == 0.2
    assert config.punctuation.num_cpus == AppConfig().punctuation.num_cpus == 0.2
    assert config.punctuation.max_ongoing_requests == 16


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_without_a_gpu_is_refused_not_ignored(dtype: Any) -> None:
    with pytest.raises(ValidationError, match="runs on CPUs, in fp32"):
        resolve.resolve(AppConfig(models=Models(**FAKES), dtype=dtype), [Node(num_cpus=2)])


@pytest.mark.parametrize(
    ("cached", "hubs", "asr"),
    [
        (True, [], "paraformer-zh"),
        (False, ["modelscope"], "paraformer-zh"),
        (False, [], "whisper-small"),
    ],
)
def test_auto_serves_paraformer_where_it_is_available_and_notes_its_choice(
    monkeypatch: pytest.MonkeyPatch, cached: bool, hubs: list[str], asr: str
) -> None:
    monkeypatch.setattr(resolve, "is_cached", lambda ref, cache_dir: cached)
    monkeypatch.setattr(resolve, "probe_hubs", lambda timeout_s: hubs)

    resolved, (note,) = resolve.resolve(AppConfig(models=Models(asr="auto")), [Node(num_cpus=2)])

    assert resolved.models.asr == asr
    assert asr in note


def test_a_gpu_pool_refuses_whisper() -> None:
    pools = {"T4": Pool(num_gpus=0.5, accelerator_type="T4")}
    config = AppConfig(models=Models(asr="whisper-small"), pools=pools)

    with pytest.raises(ModelUnavailable, match="CPUs only"):
        resolve.resolve(config, ONE_T4)


def test_an_unknown_model_is_refused_before_anything_starts() -> None:
    config = AppConfig(models=Models(asr="parafromer-zh"))

    with pytest.raises(ModelUnavailable, match="paraformer-zh"):
        resolve.resolve(config, [Node(num_cpus=2)])


@pytest.mark.parametrize(
    ("asr", "pool", "dtype", "expected"),
    [
        ("paraformer-zh", Pool(num_gpus=0.5), "fp16", ("cuda", "fp16", 0.5)),
        ("paraformer-zh", Pool(), "fp32", ("cpu", "fp32", None)),
        ("paraformer-zh", Pool(), "int8", ("cpu", "int8", None)),
        ("whisper-small", Pool(), "fp32", ("cpu", "int8", None)),
        ("whisper-tiny-cpp", Pool(), "fp32", ("cpu", "fp16", None)),
        ("paraformer-zh", Pool(num_gpus=1), "bf16", ("cuda", "bf16", None)),
    ],
)
def test_each_pool_knows_the_device_and_dtype_that_it_really_runs(
    asr: str, pool: Pool, dtype: Any, expected: tuple[str, str, float | None]
) -> None:
    config = AppConfig(models=Models(asr=asr), dtype=dtype, pools={"p": pool})

    settings = app.engine_settings(asr, pool, config)

    assert (settings.device, settings.dtype, settings.memory_fraction) == expected


def test_vad_and_punctuation_stay_in_full_precision_on_a_gpu() -> None:
    config = AppConfig(dtype="fp16", vad=VadStage(num_gpus=0.1))

    assert app.engine_settings("fsmn-vad", config.vad, config).dtype == "fp32"


@pytest.mark.parametrize("mode", ["exact", "windowed"])
def test_the_mode_of_punctuation_reaches_its_engine(mode: str) -> None:
    config = AppConfig.model_validate({"punctuation": {"mode": mode}})

    assert app.engine_settings("ct-punc-zh", config.punctuation, config).punctuation == mode
    assert app.engine_settings("fsmn-vad", config.vad, config).punctuation == "exact"
