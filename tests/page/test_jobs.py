"""From 开始转写 to the text: every state of a job is shown, and none is silent."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from tests.page.conftest import Open
from tests.page.fake_service import MEETING, Service

PANEL = ".panel[role=status]"


def press_start(page: Any) -> None:
    """Chooses the sample meeting and presses the button."""
    page.set_input_files("input[type=file]", MEETING)
    page.get_by_role("button", name="开始转写").click()


def test_a_recording_goes_through_every_state(
    service: Service, open_page: Open, shoot: Any, complaints: list[str]
) -> None:
    service.held = {"queued", "halfway"}
    page = open_page()
    shoot(page, "start")

    press_start(page)
    expect(page.locator(PANEL)).to_contain_text("下一个就是它")
    shoot(page, "queued")
    service.held.discard("queued")
    expect(page.locator(".block li")).to_have_count(len(service.script) // 2)
    expect(page.locator(PANEL)).to_contain_text("已识别")
    shoot(page, "processing")
    service.held.clear()
    expect(page.locator(".block li")).to_have_count(len(service.script))
    expect(page.locator(".title .chip")).to_have_text("已完成")
    expect(page.locator(PANEL)).to_be_hidden()

    assert service.sent[0]["content"] == MEETING.read_bytes()
    assert service.sent[0]["name"] == "meeting.flac"
    assert complaints == []
