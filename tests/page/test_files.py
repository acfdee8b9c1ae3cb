"""The files of the page as they are served: headers, compression, and what they may load."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deployments.api.page.files import ROUTES, STATIC

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_LINES = 300
SCRIPTS = sorted(STATIC.rglob("*.js"))
IDS = [str(path.relative_to(STATIC)) for path in SCRIPTS]
HTML = (STATIC / "index.html").read_text("utf-8")
WORDS = (STATIC / "words.js").read_text("utf-8")


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=list(ROUTES)))


def linked() -> list[str]:
    """What the HTML loads."""
    return re.findall(r'(?:src|href)="(page/[^"#]+)', HTML)


def test_the_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    headers = client.get("/").headers

    assert headers["content-security-policy"].startswith("default-src 'self'; media-src")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["permissions-policy"].startswith("microphone=(self)")


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/main.js")

    again = client.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


def test_files_are_compressed_for_those_who_can_read_it(client: TestClient) -> None:
    packed = client.get("/page/words.js")
    plain = client.get("/page/words.js", headers={"Accept-Encoding": "identity"})

    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == (STATIC / "words.js").read_bytes()


@pytest.mark.parametrize("name", ["nothing.js", "../files.py", "%2e%2e/files.py", "job"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_everything_that_the_page_names_is_there(client: TestClient) -> None:
    assert {client.get(f"/{name}").status_code for name in linked()} == {200}


def test_every_script_is_fetched_at_once_rather_than_one_after_the_other() -> None:
    assert {f"page/{path.relative_to(STATIC).as_posix()}" for path in SCRIPTS} <= {*linked()}


def test_no_script_and_no_style_stands_in_the_html() -> None:
    assert re.findall(r"<style|style=|<script(?![^>]*src)|\son\w+=", HTML) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_a_script_fits_in_the_head_and_says_what_it_is(path: Path) -> None:
    source = path.read_text("utf-8")

    assert len(source.splitlines()) <= MOST_LINES
    assert re.match(r"// \S.*\.$", source.splitlines()[0])
    assert "innerHTML" not in source


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_every_sentence_that_a_script_says_exists(path: Path) -> None:
    known = set(re.findall(r"^  (\w+): \[", WORDS, re.MULTILINE))
    said = set(re.findall(r'\bt\("(\w+)"', path.read_text("utf-8")))

    assert said - known == set()


def test_the_files_are_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    assert "static/**/*" in project["tool"]["setuptools"]["package-data"]["deployments.api.page"]
