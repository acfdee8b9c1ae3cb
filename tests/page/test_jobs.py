"""From 开始转写 to the text: every state of a job is shown, and none is silent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.conftest import Open
from tests.page.fake_service import Service
from tests.page.material import MEETING

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

PANEL = ".panel.state"
SLOW_BYTES_S = 400_000  # of an upload that can be watched


def press_start(page: Any) -> None:
    """Chooses the sample meeting and presses the button."""
    page.set_input_files("input[type=file]", MEETING)
    page.get_by_role("button", name="开始转写").click()


def slow_down(page: Any) -> None:
    """A narrow network, as Chromium's tools make it."""
    tools = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 20, "downloadThroughput": -1}
    tools.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": SLOW_BYTES_S})


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


def test_an_upload_shows_its_share_and_its_speed(open_page: Open, shoot: Any) -> None:
    page = open_page()
    slow_down(page)

    press_start(page)

    expect(page.locator(".card .figures")).to_contain_text("上传中")
    expect(page.locator(".card .figures")).to_contain_text("kB/s")
    shoot(page, "uploading")
    expect(page.locator(".title .chip")).to_have_text("已完成", timeout=60_000)


def test_several_recordings_are_sent_and_each_is_shown(service: Service, open_page: Open) -> None:
    page = open_page()

    files = [{"name": f"第{i}段.flac", "mimeType": "audio/flac", "buffer": b"x"} for i in range(3)]
    page.set_input_files("input[type=file]", files)
    page.get_by_role("button", name="开始转写（3）").click()

    expect(page.locator(".sent .chip.completed")).to_have_count(3)
    expect(page.locator(".jobs .chip.completed")).to_have_count(3)
    assert {one["name"] for one in service.sent} == {"第0段.flac", "第1段.flac", "第2段.flac"}


def test_nothing_chosen_is_said(open_page: Open) -> None:
    page = open_page()

    page.get_by_role("button", name="开始转写").click()

    expect(page.get_by_role("alert").filter(has_text="先选一段录音")).to_be_visible()


def test_a_url_is_sent_in_the_place_of_a_file(service: Service, open_page: Open) -> None:
    page = open_page()

    page.get_by_label("链接").fill("https://files.example/a/%E4%BC%9A%E8%AE%AE.mp3")
    page.get_by_role("button", name="添加").click()
    page.get_by_role("button", name="开始转写").click()

    expect(page.locator("h1")).to_have_text("会议.mp3")
    assert service.sent[0]["url"] == "https://files.example/a/%E4%BC%9A%E8%AE%AE.mp3"


def test_options_are_sent(service: Service, open_page: Open) -> None:
    page = open_page()

    page.get_by_text("选项").click()
    page.get_by_label("热词").fill("庭审记录\n王小明")
    page.get_by_label("把口语数字").check()
    press_start(page)

    expect(page.locator("h1")).to_have_text("meeting.flac")
    assert service.sent[0]["hotwords[]"] == "王小明"  # the last of both
    assert service.sent[0]["itn"] == "true"


def test_a_failure_is_told_in_the_words_of_the_service(
    service: Service, open_page: Open, shoot: Any
) -> None:
    service.refuses = "The file has no sound track."
    page = open_page()

    press_start(page)

    expect(page.locator(PANEL)).to_contain_text("The file has no sound track.")
    expect(page.locator(".title .chip")).to_have_text("失败")
    shoot(page, "failed")


def test_a_job_can_be_canceled(service: Service, open_page: Open, shoot: Any) -> None:
    service.held = {"halfway"}
    page = open_page()
    press_start(page)
    expect(page.locator(".block li")).to_have_count(len(service.script) // 2)

    page.get_by_role("button", name="取消任务").click()

    expect(page.locator(PANEL)).to_contain_text("任务已取消")
    expect(page.locator(".block li")).to_have_count(len(service.script) // 2)
    shoot(page, "canceled")


def test_a_busy_service_is_waited_for(service: Service, open_page: Open, shoot: Any) -> None:
    page = open_page()
    expect(page.locator(".none")).to_be_visible()
    service.down = True

    press_start(page)
    expect(page.locator(".card .figures")).to_contain_text("秒后自动重试")
    shoot(page, "busy")
    service.down = False

    expect(page.locator(".title .chip")).to_have_text("已完成", timeout=20_000)
    assert len(service.sent) == 1


def test_a_cut_is_shown_and_the_text_goes_on_where_it_was(
    service: Service, open_page: Open, shoot: Any
) -> None:
    service.held = {"halfway"}
    page = open_page()
    press_start(page)
    half = len(service.script) // 2
    expect(page.locator(".block li")).to_have_count(half)

    service.down = True
    expect(page.locator(".lost")).to_be_visible()
    shoot(page, "lost")
    service.down = False
    service.held.clear()

    expect(page.locator(".block li")).to_have_count(len(service.script), timeout=20_000)
    expect(page.locator(".lost")).to_be_hidden()
    assert service.resumed_after == [0, half]


def test_a_reload_in_the_middle_loses_nothing(service: Service, open_page: Open) -> None:
    service.held = {"halfway"}
    page = open_page()
    press_start(page)
    expect(page.locator(".block li")).to_have_count(len(service.script) // 2)

    page.reload()
    service.held.clear()

    expect(page.locator(".block li")).to_have_count(len(service.script))
    expect(page.locator(".title .chip")).to_have_text("已完成")


@pytest.mark.parametrize("number", [0, 44])
def test_past_jobs_are_listed_and_open(service: Service, open_page: Open, number: int) -> None:
    for i in range(45):
        service.make(f"会议{i}", state="completed", created_at=1000.0 - i)
    page = open_page()

    page.get_by_role("button", name="更早的任务").click()
    expect(page.locator(".jobs li")).to_have_count(45)
    page.locator(".jobs a").nth(number).click()

    expect(page.locator("h1")).to_have_text(f"会议{number}")
    expect(page.locator(".jobs a[aria-current=page]")).to_have_count(1)


def test_a_job_is_renamed_and_deleted(service: Service, open_page: Open, shoot: Any) -> None:
    job = service.make("会议", state="completed")
    page = open_page(f"#/job/{job['id']}")

    page.get_by_role("button", name="改名").click()
    page.get_by_label("名称").fill("三月例会")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("h1")).to_have_text("三月例会")
    page.get_by_role("button", name="删除", exact=True).click()
    shoot(page, "delete")
    page.locator("dialog").get_by_role("button", name="删除").click()

    expect(page.locator("h1")).to_have_text("把录音变成文字")
    expect(page.locator(".none")).to_be_visible()
    assert service.jobs == {}


def test_a_job_that_is_gone_is_said_to_be(open_page: Open) -> None:
    page = open_page("#/job/job_nowhere")

    expect(page.locator("h1")).to_contain_text("没有这个任务")


def test_each_file_of_a_job_has_its_own_state(service: Service, open_page: Open) -> None:
    job = service.make("两段录音", state="completed")
    error = {"code": "invalid_audio", "message": "The file has no sound track."}
    progress = {"audio_s_done": 0.0, "audio_s_total": None}
    broken = {**job["files"][0], "index": 1, "name": "坏的.mp3", "state": "failed", "error": error}
    job["files"] = [{**job["files"][0], "state": "completed"}, {**broken, "progress": progress}]
    page = open_page(f"#/job/{job['id']}")
    expect(page.locator("summary", has_text="导出")).to_be_visible()

    page.get_by_label("文件").select_option("坏的.mp3")

    expect(page.locator(PANEL)).to_contain_text("The file has no sound track.")
    expect(page.locator("summary", has_text="导出")).to_be_hidden()


def test_the_focus_stays_while_the_list_is_told_the_news(service: Service, open_page: Open) -> None:
    service.held = {"begun"}
    page = open_page()
    press_start(page)
    expect(page.locator(".jobs .chip")).to_have_text("识别中")
    page.locator(".jobs a").focus()

    service.held.clear()
    expect(page.locator(".jobs .chip")).to_have_text("已完成")

    expect(page.locator(".jobs a")).to_be_focused()
