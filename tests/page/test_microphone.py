"""A recording from the microphone is kept in slices until the service has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deployments.core.media.decode import decode
from deployments.core.types import SAMPLE_RATE_HZ
from tests.page.conftest import Open
from tests.page.fake_service import Service
from tests.page.material import samples

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

SLICE_MS = 5000


def record(page: Any, ms: int) -> None:
    """Begins to record, and goes on for as long."""
    page.get_by_role("button", name="录音", exact=True).click()
    expect(page.locator(".recording .figures")).to_contain_text("正在录音")
    page.wait_for_timeout(ms)


def heard_in(content: bytes) -> np.ndarray:
    """The sound of what was sent."""
    return decode(np.frombuffer(content, np.uint8), channel=None, max_duration_s=60)


def loudness(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio.astype(np.float32)))))


def test_a_recording_is_heard_sent_and_forgotten(
    service: Service, open_page: Open, shoot: Any, complaints: list[str]
) -> None:
    page = open_page()
    record(page, 3000)
    shoot(page, "recording")
    page.get_by_role("button", name="停止录音").click()
    expect(page.locator(".card audio")).to_have_count(1)
    shoot(page, "recorded")

    page.get_by_role("button", name="开始转写").click()
    expect(page.locator(".title .chip")).to_have_text("已完成")
    page.goto(page.url.split("#")[0])
    page.reload()
    expect(page.locator(".jobs li")).to_have_count(1)

    sent = heard_in(service.sent[0]["content"])
    assert 2 < len(sent) / SAMPLE_RATE_HZ < 5
    assert loudness(sent) > loudness(samples()) / 10
    expect(page.locator(".card")).to_have_count(0)
    assert complaints == []


def test_a_reload_in_the_middle_of_a_recording_leaves_its_slices(
    service: Service, open_page: Open, shoot: Any
) -> None:
    page = open_page()
    record(page, SLICE_MS + 1500)
    expect(page.locator(".recording .figures")).not_to_contain_text("0 B")

    page.reload()
    expect(page.locator(".card .note")).to_have_text("上次没送出的录音，已找回")
    shoot(page, "recovered")
    page.get_by_role("button", name="开始转写").click()
    expect(page.locator(".title .chip")).to_have_text("已完成")

    assert len(heard_in(service.sent[0]["content"])) / SAMPLE_RATE_HZ > SLICE_MS / 1000 - 1


def test_a_recording_that_is_thrown_away_does_not_come_back(open_page: Open) -> None:
    page = open_page()
    record(page, 1000)
    page.get_by_role("button", name="停止录音").click()

    page.get_by_role("button", name="移除").click()
    page.reload()

    expect(page.locator(".none")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)


def test_a_paused_recording_goes_on(open_page: Open) -> None:
    page = open_page()
    record(page, 500)

    page.get_by_role("button", name="暂停").click()
    expect(page.locator(".recording .figures")).to_contain_text("录音已暂停")
    page.get_by_role("button", name="继续").click()

    expect(page.locator(".recording .figures")).to_contain_text("正在录音")
