"""How the page is for each reader: languages, colours, a phone, a screen reader, without jobs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.conftest import PHONE, Open
from tests.page.fake_service import Service
from tests.page.material import MEETING

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

MOST_BYTES = 250_000
MOST_PAINT_MS = 1000
PAINT_MS = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
LOADED = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/'))"
TOO_WIDE = "document.documentElement.scrollWidth > innerWidth"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(246, 246, 243)", "rgb(21, 23, 27)"
AXE = """async () => (await axe.run()).violations.map(
  ({id, impact, nodes}) => `${impact} ${id}: ${nodes.map((one) => one.html).join(' ')}`)"""


def serious(page: Any, axe: str) -> list[str]:
    """What axe finds, minor remarks left out."""
    page.add_script_tag(content=axe)
    found: list[str] = page.evaluate(AXE)
    return [one for one in found if one.startswith(("moderate", "serious", "critical"))]


def test_the_page_is_small_and_painted_at_once(open_page: Open, complaints: list[str]) -> None:
    page = open_page()
    expect(page.locator(".none")).to_be_visible()

    n_bytes = page.evaluate(f"{LOADED}.reduce((sum, one) => sum + one.decodedBodySize, 0)")
    paint_ms = page.evaluate(PAINT_MS)

    print(f"{n_bytes} bytes, painted after {paint_ms:.0f} ms")
    assert 0 < n_bytes < MOST_BYTES
    assert paint_ms < MOST_PAINT_MS
    assert complaints == []


@pytest.mark.parametrize(
    ("locale", "heading"),
    [
        ("zh-CN", "把录音变成文字"),
        ("zh-TW", "把录音变成文字"),
        ("en-GB", "Turn recordings into text"),
        ("fr-FR", "Turn recordings into text"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    open_page: Open, locale: str, heading: str
) -> None:
    page = open_page(locale=locale)

    expect(page.locator("h1")).to_have_text(heading)


def test_another_language_is_remembered(service: Service, open_page: Open, shoot: Any) -> None:
    job = service.make("会议.flac", state="completed")
    page = open_page(f"#/job/{job['id']}", color_scheme="dark")

    page.get_by_role("button", name="EN").click()
    expect(page.locator("summary")).to_have_text("Export")
    page.reload()

    expect(page.locator("summary")).to_have_text("Export")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    shoot(page, "english")


def test_colours_follow_the_system_and_a_switch_is_remembered(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    system = page.evaluate(BACKGROUND)

    page.get_by_role("button", name="切换到浅色").click()
    page.reload()

    assert system == DARK
    assert page.evaluate(BACKGROUND) == LIGHT


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("at", ["#/", "#/job/job_0001"])
def test_a_phone_of_360_pixels_shows_everything(
    service: Service, open_page: Open, shoot: Any, scheme: str, at: str
) -> None:
    service.make("三月十二号项目例会.flac", state="completed")
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    page = open_page(at, color_scheme=scheme, **phone)
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(500)

    shoot(page, f"phone-{scheme}-{'job' if 'job' in at else 'start'}")
    too_wide = page.evaluate(TOO_WIDE)
    page.get_by_role("button", name="转写任务").click()

    expect(page.locator(".jobs a")).to_be_in_viewport()
    assert not too_wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["start", "failed", "canceled", "queued", "completed"])
def test_axe_finds_nothing_serious(
    service: Service, open_page: Open, axe: str, scheme: str, state: str
) -> None:
    job = service.make("会议.flac", state=state)
    service.segments[job["id"]] = service.script
    at = "" if state == "start" else f"#/job/{job['id']}"
    page = open_page(at, color_scheme=scheme, bypass_csp=True)
    expect(page.locator(".jobs a")).to_be_visible()
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(300)

    assert serious(page, axe) == []


def test_axe_finds_nothing_serious_while_the_text_is_worked_on(
    service: Service, open_page: Open, axe: str
) -> None:
    job = service.make("会议.flac", state="completed")
    page = open_page(f"#/job/{job['id']}", bypass_csp=True)
    expect(page.locator(".block li").first).to_be_visible()

    page.keyboard.press("/")
    page.get_by_role("searchbox", name="查找").fill("录音")
    page.locator("summary", has_text="导出").click()
    in_the_menu = serious(page, axe)
    page.locator(".time").nth(2).focus()
    page.keyboard.press("e")
    expect(page.locator("li.open textarea")).to_be_visible()
    while_editing = serious(page, axe)

    assert (in_the_menu, while_editing) == ([], [])


def test_final_sentences_are_announced_politely(service: Service, open_page: Open) -> None:
    service.held = {"halfway"}
    page = open_page()
    page.set_input_files("input[type=file]", MEETING)
    page.get_by_role("button", name="开始转写").click()

    said = page.get_by_role("log")

    expect(said).to_have_attribute("aria-live", "polite")
    expect(said).to_contain_text(service.script[len(service.script) // 2 - 1]["text"])


def test_a_screen_reader_gets_names_and_states(service: Service, open_page: Open) -> None:
    service.make("会议.flac", state="completed")
    page = open_page("#/job/job_0001")

    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_role("navigation", name="转写任务")).to_be_visible()
    expect(page.get_by_role("slider", name="播放位置")).to_be_visible()
    expect(page.get_by_role("button", name="从 0:11 播放：好的")).to_be_visible()


def test_the_keys_are_listed_and_can_be_switched_off(service: Service, open_page: Open) -> None:
    service.make("会议.flac", state="completed")
    page = open_page("#/job/job_0001")
    expect(page.locator(".block li").first).to_be_visible()

    page.keyboard.press("?")
    page.get_by_label("启用单键快捷键").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("/")

    expect(page.locator(".search")).to_be_hidden()


def test_a_key_signs_in_where_keys_are_required(
    service: Service, open_page: Open, shoot: Any
) -> None:
    service.key = "sk-right"
    service.make("会议.flac", state="completed")
    page = open_page()
    shoot(page, "sign-in")

    page.get_by_label("密钥").fill("sk-wrong")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_text("这个密钥不对")).to_be_visible()
    page.get_by_label("密钥").fill("sk-right")
    page.get_by_role("button", name="登录").click()

    expect(page.locator(".jobs a")).to_have_count(1)
    expect(page.get_by_role("button", name="退出")).to_be_visible()


def test_without_jobs_the_text_grows_all_the_same(
    service: Service, open_page: Open, shoot: Any, complaints: list[str]
) -> None:
    service.jobs_on = False
    service.held = {"halfway"}
    page = open_page()
    expect(page.locator(".none")).to_contain_text("没有开启任务")

    page.set_input_files("input[type=file]", MEETING)
    page.get_by_role("button", name="开始转写").click()
    expect(page.locator(".growing")).to_contain_text(service.script[2]["text"])
    shoot(page, "direct")
    service.held.clear()
    expect(page.locator(".block li")).to_have_count(len(service.script))
    page.locator("summary", has_text="导出").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="SRT 字幕").click()

    assert downloading.value.suggested_filename == "meeting.srt"
    assert downloading.value.path().read_text("utf-8").startswith("1\n00:00:00,800 --> 00:00:09")
    assert complaints == []


DROPPED = """() => {
  const all = new DataTransfer();
  all.items.add(new File(["x"], "拖来的.mp3"));
  return all;
}"""
PASTE = """() => {
  const all = new DataTransfer();
  all.items.add(new File(["x"], "贴来的.mp3"));
  const event = new ClipboardEvent("paste", { clipboardData: all, bubbles: true });
  document.body.dispatchEvent(event);
}"""


def test_files_are_dropped_and_pasted(open_page: Open, shoot: Any) -> None:
    page = open_page()

    dropped = page.evaluate_handle(DROPPED)
    page.dispatch_event(".zone", "dragover", {"dataTransfer": dropped})
    shoot(page, "drop")
    page.dispatch_event(".zone", "drop", {"dataTransfer": dropped})
    page.evaluate(PASTE)

    expect(page.locator(".card strong")).to_have_text(["拖来的.mp3", "贴来的.mp3"])
