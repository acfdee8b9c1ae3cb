"""A browser, the fake service behind the real page, and screenshots of what it shows."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from benchmarks.machine import free_port
from benchmarks.material.recordings import wav_bytes
from deployments.core.types import SAMPLE_RATE_HZ
from tests.page.fake_service import Service, application
from tests.page.material import samples

CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).resolve().parent.parent.parent
SHOTS = ROOT / "build" / "screenshots"
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
RECORDED_S = 20
ALLOWED = ["microphone", "clipboard-read", "clipboard-write"]

Open = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test with the browser is slow, and skipped where there is none."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="chromium is not installed"))


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears: the beginning of the sample meeting, as wav."""
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    path.write_bytes(wav_bytes(samples()[: RECORDED_S * SAMPLE_RATE_HZ]))
    return path


@pytest.fixture(scope="module")  # while it is open, no other test may run an event loop
def browser(spoken: Path) -> Iterator[Any]:
    """Debian's Chromium, whose microphone is the file."""
    from playwright.sync_api import sync_playwright  # the modules of tests are skipped without

    with sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={spoken}%noloop",
            ],
        )
        yield launched
        launched.close()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """The address of the fake service."""
    port = free_port()
    config = uvicorn.Config(application(service), port=port, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    service.down = True  # ends the streams
    service.held.clear()
    server.should_exit = True
    thread.join(10)


def is_complaint(message: Any) -> bool:
    """Whether the console has an error, other than that of a status which the page expects."""
    return message.type == "error" and "Failed to load resource" not in message.text


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console complains of, such as a breach of the policy."""
    return []


@pytest.fixture
def open_page(browser: Any, url: str, complaints: list[str]) -> Iterator[Open]:
    """Opens the page in a context of its own. `at` is the fragment of the address."""
    contexts = []

    def opened(at: str = "", **options: Any) -> Any:
        chosen = {"locale": "zh-CN", "viewport": WIDE, "accept_downloads": True, **options}
        context = browser.new_context(permissions=ALLOWED, **chosen)
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if is_complaint(m) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{url}/{at}")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def shoot() -> Callable[[Any, str], None]:
    """Writes a screenshot into build/screenshots."""

    def taken(page: Any, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png")

    return taken


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core from npm, which is kept in .cache."""
    folder = ROOT / ".cache" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        try:
            subprocess.run(
                [*command, "axe-core@4.14.1"], check=True, capture_output=True, timeout=120
            )
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"axe-core cannot be had from npm: {type(error).__name__}")
    return script.read_text("utf-8")
