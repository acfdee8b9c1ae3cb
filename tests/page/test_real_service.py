"""The page of the real service, with its jobs and without, through Serve's proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from deployments.config import AppConfig
from deployments.keys.secrets import new_id, new_key
from deployments.serve import running
from tests.page.conftest import Open

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FAKES = {
    "models": {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"},
    "pools": {"only": {"num_cpus": 0.1, "speed": 1000}},
}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of the real service with engines that recognise nothing."""
    kept = {"jobs": {"enabled": request.param}, "storage": {"data_dir": str(tmp_path / "kept")}}
    config = AppConfig.model_validate(FAKES | kept)
    with running(config, port=free_port(), num_cpus=2) as address:
        yield address


@pytest.mark.parametrize("url", [True, False], indirect=True, ids=["with jobs", "without"])
def test_a_recording_is_transcribed_from_the_page(
    open_page: Open, complaints: list[str], tmp_path: Path, shoot: Any
) -> None:
    (tmp_path / "voice.wav").write_bytes(wav_bytes(voice(8000, seed=1)))
    page = open_page()
    expect(page.locator("h1")).to_have_text("把录音变成文字")

    page.set_input_files("input[type=file]", tmp_path / "voice.wav")
    page.get_by_role("button", name="开始转写").click()

    expect(page.locator(".block li").first).to_be_visible(timeout=60_000)
    page.locator("summary", has_text="导出").click(timeout=60_000)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="SRT 字幕").click()
    shoot(page, "real")
    assert " --> " in downloading.value.path().read_text("utf-8")
    assert complaints == []


@pytest.fixture
def key() -> str:
    return new_key(new_id())


@pytest.fixture
def guarded(tmp_path: Path, key: str) -> Iterator[str]:
    """The address of a service that wants a key."""
    file = tmp_path / "keys"
    file.write_text(f"{key} name=page\n", encoding="utf-8")
    file.chmod(0o600)
    kept = {"jobs": {"enabled": True}, "storage": {"data_dir": str(tmp_path / "kept")}}
    config = AppConfig.model_validate(FAKES | kept | {"keys": {"file": str(file)}})
    with running(config, port=free_port(), num_cpus=2) as address:
        yield address


def test_a_key_opens_the_page_of_a_service_that_wants_one(
    guarded: str, key: str, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "voice.wav").write_bytes(wav_bytes(voice(8000, seed=1)))
    page = browser.new_page(locale="zh-CN")
    page.goto(guarded)
    page.get_by_label("密钥").fill(key)
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("button", name="退出")).to_be_visible()

    page.set_input_files("input[type=file]", tmp_path / "voice.wav")
    page.get_by_role("button", name="开始转写").click()
    expect(page.locator(".block li").first).to_be_visible(timeout=60_000)
    page.locator(".block li").first.click()

    # The session's cookie lets `<audio>` in, which cannot send a header.
    expect(page.locator("audio")).not_to_have_js_property("currentTime", 0, timeout=30_000)
    assert httpx.get(f"{guarded}/v1/transcription-jobs").status_code == 401
    page.close()
