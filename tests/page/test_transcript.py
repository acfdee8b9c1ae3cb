"""The sentences: heard by a click, edited without losing times, found, replaced and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import Open
from tests.page.fake_service import Service
from tests.page.material import meeting, words_of

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

NOW = "document.querySelector('audio').currentTime"
PAUSED = "document.querySelector('audio').paused"
SPEED = "document.querySelector('audio').playbackRate"
WORD = "[...(CSS.highlights.get('word') ?? [])].map(String).join()"


@pytest.fixture
def page(service: Service, open_page: Open) -> Any:
    """The page with a finished job open."""
    job = service.make("会议.flac", state="completed")
    opened = open_page(f"#/job/{job['id']}")
    expect(opened.locator(".block li")).to_have_count(len(service.script))
    return opened


def edit(page: Any, number: int, text: str) -> None:
    """Opens a sentence by a double click, and writes another text."""
    page.locator(".say").nth(number).dblclick()
    page.locator("li.open textarea").fill(text)
    page.keyboard.press("Enter")


def wait_until(page: Any, expression: str, *, tries: int = 100) -> Any:
    """The first true value of the expression. Under the policy, the page may not evaluate."""
    for _ in range(tries):
        if value := page.evaluate(expression):
            return value
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def test_a_click_on_a_sentence_plays_it_and_marks_it(
    service: Service, page: Any, shoot: Any, complaints: list[str]
) -> None:
    wanted = service.script[6]

    page.locator(".say").nth(6).click()

    expect(page.locator("li[aria-current]")).to_contain_text(wanted["text"])
    wait_until(page, f"{NOW} > {wanted['start']}")
    word = wait_until(page, WORD)
    assert word in {one["text"] for one in words_of(wanted)}
    shoot(page, "playing")
    assert wanted["start"] <= page.evaluate(NOW) < wanted["end"]
    assert complaints == []


def test_the_waveform_seeks(page: Any) -> None:
    wave = page.get_by_role("slider", name="播放位置")
    expect(wave).to_have_attribute("aria-valuemax", "227")

    wave.click(position={"x": wave.bounding_box()["width"] / 2, "y": 20})

    assert page.evaluate(NOW) == pytest.approx(113.4, abs=1.5)
    wave.press("ArrowRight")
    assert page.evaluate(NOW) == pytest.approx(118.4, abs=1.5)


def test_keys_play_go_back_and_change_the_speed(page: Any) -> None:
    wait_until(page, "document.querySelector('audio').readyState > 0")

    page.keyboard.press("l")
    page.keyboard.press("l")
    page.keyboard.press("j")
    page.keyboard.press("+")
    at, speed = page.evaluate(NOW), page.evaluate(SPEED)
    page.keyboard.press(" ")
    wait_until(page, f"!{PAUSED}")
    page.keyboard.press("k")

    assert (at, speed) == (pytest.approx(5, abs=0.1), 1.25)
    assert page.evaluate(PAUSED)


def test_sentences_are_reached_by_the_arrow_keys_and_played_by_enter(
    service: Service, page: Any
) -> None:
    page.locator(".time").first.focus()

    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".time").nth(2)).to_be_focused()
    page.keyboard.press("Enter")

    wait_until(page, f"{NOW} >= {service.script[2]['start']}")


def test_an_edit_is_kept_and_leaves_the_times(service: Service, page: Any, shoot: Any) -> None:
    page.locator(".say").nth(1).dblclick()
    shoot(page, "editing")
    page.locator("li.open textarea").fill("好的，我先讲上个季度。")
    page.keyboard.press("Enter")
    expect(page.get_by_text("修改已保存")).to_be_visible()

    page.reload()

    expect(page.locator(".say").nth(1)).to_have_text("好的，我先讲上个季度。")
    expect(page.locator(".time").nth(1)).to_have_text("0:11")
    assert [*service.edits.values()] == [{"1": "好的，我先讲上个季度。"}]


def test_escape_leaves_a_sentence_as_it_was(service: Service, page: Any) -> None:
    page.locator(".say").nth(1).dblclick()
    page.locator("li.open textarea").fill("不要")
    page.keyboard.press("Escape")

    expect(page.locator(".say").nth(1)).to_have_text(service.script[1]["text"])
    assert service.edits == {}


def test_the_recognised_text_comes_back(service: Service, page: Any) -> None:
    edit(page, 1, "改过的")
    expect(page.locator("li.edited")).to_have_count(1)

    page.locator(".say").nth(1).dblclick()
    page.get_by_role("button", name="恢复原文").click()

    expect(page.locator(".say").nth(1)).to_have_text(service.script[1]["text"])
    expect(page.locator("li.edited")).to_have_count(0)


def test_edits_that_cannot_be_saved_are_tried_again(service: Service, page: Any) -> None:
    service.down = True
    edit(page, 1, "改过的")
    expect(page.get_by_text("修改没有保存").first).to_be_visible()
    service.down = False

    page.get_by_role("button", name="重试").click()

    expect(page.get_by_text("修改已保存")).to_be_visible()
    assert [*service.edits.values()] == [{"1": "改过的"}]


def test_find_and_replace_changes_every_place_and_can_be_undone(
    service: Service, page: Any, shoot: Any
) -> None:
    n = "".join(one["text"] for one in service.script).count("录音")
    page.keyboard.press("/")
    page.get_by_role("searchbox", name="查找").fill("录音")
    expect(page.locator(".count")).to_have_text(f"第 1 处，共 {n} 处")
    page.get_by_label("替换为").fill("音频")
    shoot(page, "search")

    page.get_by_role("button", name="全部替换").click()
    expect(page.locator(".count")).to_have_text("没有找到")
    expect(page.locator(".say", has_text="录音")).to_have_count(0)
    page.get_by_role("button", name="撤销").click()

    expect(page.locator(".count")).to_contain_text(f"共 {n} 处")
    expect(page.locator("li.edited")).to_have_count(0)


def test_one_place_is_replaced_at_a_time(service: Service, page: Any) -> None:
    page.keyboard.press("/")
    page.get_by_role("searchbox", name="查找").fill("录音")
    page.get_by_label("替换为").fill("录音文件")
    page.get_by_role("button", name="替换", exact=True).click()
    page.get_by_role("button", name="替换", exact=True).click()

    expect(page.locator(".say", has_text="录音文件")).to_have_count(2)
    expect(page.locator(".say", has_text="录音文件文件")).to_have_count(0)


@pytest.mark.parametrize(
    ("words", "extension"),
    [
        ("SRT 字幕", "srt"),
        ("WebVTT 字幕", "vtt"),
        ("纯文本 txt", "txt"),
        ("LRC 歌词", "lrc"),
        ("JSON，含时间", "json"),
        ("Word 文档 docx", "docx"),
    ],
)
def test_an_export_has_the_edits(page: Any, tmp_path: Path, words: str, extension: str) -> None:
    edit(page, 1, "改过的一句")

    page.locator("summary", has_text="导出").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name=words).click()

    downloading.value.save_as(tmp_path / "export")
    assert downloading.value.suggested_filename == f"会议.{extension}"
    assert "改过的一句" in (tmp_path / "export").read_text("utf-8")


def test_the_text_is_copied(service: Service, page: Any) -> None:
    page.locator("summary", has_text="导出").click()
    page.get_by_role("button", name="复制全文").click()
    expect(page.get_by_text("已复制")).to_be_visible()

    copied = page.evaluate("navigator.clipboard.readText()")

    assert copied.split("\n") == [one["text"] for one in meeting()]


FRAMES = """() => new Promise((done) => {
  const frames = []; let last = performance.now(); let n = 0;
  const step = (now) => {
    frames.push(now - last); last = now;
    scrollTo(0, document.documentElement.scrollHeight * ((n * 37) % 101) / 101);
    if (++n < 60) requestAnimationFrame(step); else done(Math.max(...frames.slice(1)));
  };
  requestAnimationFrame(step);
})"""


def test_ten_thousand_sentences_scroll_smoothly(service: Service, open_page: Open) -> None:
    texts = [one["text"] for one in meeting()]
    service.script = [
        {"index": i, "start": i * 3.6, "end": i * 3.6 + 3, "text": f"{i} {texts[i % len(texts)]}"}
        for i in range(10_000)
    ]
    service.duration_s = 36_000
    job = service.make("十小时.flac", state="completed")
    page = open_page(f"#/job/{job['id']}")
    expect(page.locator(".block li")).to_have_count(10_000, timeout=30_000)

    slowest_ms = page.evaluate(FRAMES)
    page.keyboard.press("/")
    page.get_by_role("searchbox", name="查找").fill("9999 ")
    expect(page.locator(".count")).to_contain_text("共 1 处")

    expect(page.locator(".say", has_text="9999 ")).to_be_in_viewport()
    assert slowest_ms < 200
    print(f"slowest frame {slowest_ms:.0f} ms")
