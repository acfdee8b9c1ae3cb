"""Texts that no database and no answer can hold are refused where they come in."""

from __future__ import annotations

import httpx
import pytest

from tests.api.jobs.played import Played

JOBS = "/v1/transcription-jobs"
HALF = b"\\ud800"  # half of a character, as JSON can write it


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", b'{"url": "https://example.com/a.mp3", "name": "%s"}'),
        ("PATCH", "/{job}", b'{"name": "%s"}'),
        ("PUT", "/{job}/edits", b'{"segments": {"0": "%s"}}'),
        ("PUT", "/{job}/edits", b'{"segments": {"%s": "x"}}'),
    ],
)
def test_half_a_character_is_refused(played: Played, method: str, path: str, body: bytes) -> None:
    made = httpx.post(played.url + JOBS, json={"url": "https://example.com/a.mp3"}).json()
    url = played.url + JOBS + path.format(job=made["id"])
    headers = {"content-type": "application/json"}

    answer = httpx.request(method, url, content=body % HALF, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"


def test_a_whole_character_in_two_escapes_is_one(played: Played) -> None:
    made = httpx.post(played.url + JOBS, json={"url": "https://example.com/a.mp3"}).json()
    url = f"{played.url}{JOBS}/{made['id']}"

    answer = httpx.patch(url, content=b'{"name": "\\ud83d\\ude00"}')

    assert answer.json()["name"] == "😀"
