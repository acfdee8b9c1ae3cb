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


@pytest.mark.parametrize("sent", ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', "[1]"])
def test_metadata_that_no_answer_can_hold_is_refused(played: Played, sent: str) -> None:
    body = {"url": "https://example.com/a.mp3", "metadata": sent}

    answer = httpx.post(played.url + JOBS, json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


@pytest.mark.parametrize("name", ["nothing", "%00", "job_" + "z" * 24, "x" * 5000])
def test_what_is_no_id_is_not_found(played: Played, name: str) -> None:
    answer = httpx.get(f"{played.url}{JOBS}/{name}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_metadata_of_that_name_does_not_disturb_dashscope(played: Played) -> None:
    body = {"url": "https://example.com/a.mp3", "metadata": '{"dashscope": "x"}'}
    httpx.post(played.url + JOBS, json=body)

    answer = httpx.get(f"{played.url}/api/v1/tasks")

    assert answer.status_code == 200
