"""Alibaba's own SDK against this service."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import httpx
import pytest
import requests
from dashscope.audio.asr import Transcription

from tests.api.jobs.conftest import SOUND
from tests.api.jobs.played import Played, transcript_of
from tests.api.jobs.sdk import ended, running, submitted


@pytest.fixture(autouse=True)
def sdk(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK as a program sets it up."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{played.url}/api/v1")
    monkeypatch.setattr(dashscope, "api_key", "none")


def test_a_batch_is_submitted_awaited_and_fetched(played: Played, recordings: str) -> None:
    urls = [f"{recordings}/{name}" for name in ("a.wav", "broken.wav", "missing.wav")]

    task = submitted(*urls)
    done = ended(task)

    good, broken, missing = done.output.results
    assert task.output.task_status == "PENDING"
    assert done.output.task_status == "SUCCEEDED"
    assert done.output.task_metrics == {"TOTAL": 3, "SUCCEEDED": 1, "FAILED": 2}
    assert [one["file_url"] for one in done.output.results] == urls
    assert (good["subtask_status"], broken["subtask_status"]) == ("SUCCEEDED", "FAILED")
    assert broken["code"] == "InvalidFile.Format"
    assert missing["code"] == "InvalidFile.DownloadFailed"
    assert done.usage == {"duration": 9}
    assert done.output.submit_time <= done.output.scheduled_time <= done.output.end_time


def test_the_transcript_is_behind_a_plain_link(recordings: str) -> None:
    done = ended(submitted(f"{recordings}/a.wav"))
    link = done.output.results[0]["transcription_url"]

    found = requests.get(link, timeout=10).json()

    expected = transcript_of(len(SOUND))
    assert found["file_url"] == f"{recordings}/a.wav"
    assert found["properties"]["original_duration_in_milliseconds"] == expected.duration_ms
    assert found["transcripts"][0]["text"] == expected.text
    assert "none" not in link


def test_a_link_that_was_changed_is_refused(played: Played, recordings: str) -> None:
    first, second = (ended(submitted(f"{recordings}/a.wav")).output for _ in range(2))
    link = first.results[0]["transcription_url"]
    of_another = link.replace(first.task_id, second.task_id)
    bare = link.partition("?")[0]

    answers = [httpx.get(url) for url in (of_another, bare, link[:-2], f"{bare}?Expires=9e99")]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert {answer.json()["code"] for answer in answers} == {"AccessDenied"}


def test_a_link_outlives_the_service(tmp_path: Path, played: Played, recordings: str) -> None:
    done = ended(submitted(f"{recordings}/a.wav"))
    link = done.output.results[0]["transcription_url"].removeprefix(played.url)

    with Played(tmp_path, {}, played.fetch).running() as another:
        answer = httpx.get(another.url + link)

    assert answer.status_code == 200


def test_a_failed_task_says_why(recordings: str) -> None:
    done = ended(submitted(f"{recordings}/broken.wav"))

    assert done.status_code == HTTPStatus.OK
    assert done.output.task_status == "FAILED"
    assert done.output.code == "InvalidFile.Format"
    assert done.output.message == "The file has no sound track."


def test_a_running_task_is_canceled(recordings: str) -> None:
    task = submitted(f"{recordings}/held.wav")
    running(task)

    canceled = Transcription.cancel(task)
    again = Transcription.cancel(task)

    assert canceled.status_code == again.status_code == HTTPStatus.OK
    assert ended(task).output.task_status == "CANCELED"


def test_a_task_that_has_ended_cannot_be_canceled(recordings: str) -> None:
    task = submitted(f"{recordings}/a.wav")
    ended(task)

    answer = Transcription.cancel(task)

    assert (answer.status_code, answer.code) == (400, "UnsupportedOperation")
    assert ended(task).output.task_status == "SUCCEEDED"


def test_a_task_that_is_not_there_is_unknown() -> None:
    found = Transcription.wait("b9f0c0ea-0000-0000-0000-000000000000")

    assert found.output.task_status == "UNKNOWN"
    assert Transcription.cancel("nothing").code == "UnsupportedOperation"


def test_another_key_s_task_is_not_there(
    played: Played, recordings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashscope, "api_key", "key_1")
    task = submitted(f"{recordings}/held.wav")
    running(task)
    monkeypatch.setattr(dashscope, "api_key", "key_2")

    found = Transcription.fetch(task)
    canceled = Transcription.cancel(task)
    listed = Transcription.list().output

    assert found.output.task_status == "UNKNOWN"
    assert canceled.code == "UnsupportedOperation"
    assert (listed["total"], listed["data"]) == (0, [])
    monkeypatch.setattr(dashscope, "api_key", "key_1")
    assert Transcription.fetch(task).output.task_status == "RUNNING"
    assert Transcription.list().output["total"] == 1


def test_tasks_are_listed_in_numbered_pages(recordings: str) -> None:
    good = submitted(f"{recordings}/a.wav").output.task_id
    mixed = submitted(f"{recordings}/a.wav", f"{recordings}/broken.wav").output.task_id
    bad = submitted(f"{recordings}/broken.wav").output.task_id
    canceled = submitted(f"{recordings}/held.wav").output.task_id
    Transcription.cancel(canceled)
    [ended(task) for task in (good, mixed, bad)]

    pages = [Transcription.list(page_no=number, page_size=3).output for number in (1, 2, 3)]
    succeeded = Transcription.list(status="SUCCEEDED").output
    failed = Transcription.list(status="FAILED").output

    assert [[one["task_id"] for one in page["data"]] for page in pages] == [
        [canceled, bad, mixed],
        [good],
        [],
    ]
    assert [(page["total"], page["total_page"]) for page in pages] == [(4, 2)] * 3
    assert [one["status"] for one in pages[0]["data"]] == ["CANCELED", "FAILED", "SUCCEEDED"]
    assert [one["task_id"] for one in succeeded["data"]] == [mixed, good]
    assert [one["task_id"] for one in failed["data"]] == [bad]
    assert pages[1]["data"][0]["model_name"] == "paraformer-v2"


def test_the_list_knows_times_and_models(recordings: str) -> None:
    submitted(f"{recordings}/a.wav")

    found = {
        "since 2020": Transcription.list(start_time="20200101000000").output["total"],
        "until 2020": Transcription.list(end_time="20200101000000").output["total"],
        "ours": Transcription.list(model_name="paraformer-8k-v1").output["total"],
        "another": Transcription.list(model_name="fun-asr").output["total"],
    }

    assert found == {"since 2020": 1, "until 2020": 0, "ours": 1, "another": 0}


def test_what_has_no_effect_is_told(played: Played, recordings: str) -> None:
    task = submitted(
        f"{recordings}/a.wav",
        phrase_id="p",
        diarization_enabled=True,
        speaker_count=2,
        disfluency_removal_enabled=False,
        language_hints=["zh", "en"],
        colour="red",
    )
    warnings = ended(task).output.warnings

    assert warnings == task.output.warnings
    assert [warning.split(":")[0] for warning in warnings] == [
        "diarization_enabled",
        "speaker_count",
        "unknown fields colour",
        "phrase_id",
    ]
    assert task.headers["warnings"] == ", ".join(warnings)


def test_the_parameters_reach_the_recogniser(played: Played, recordings: str) -> None:
    plain = submitted(f"{recordings}/a.wav")
    chosen = {"channel_id": [1], "language_hints": ["zh", "en"], "hotwords": ["魔搭"]}
    ended(plain)
    ended(submitted(f"{recordings}/a.wav", itn=False, **chosen))

    first, second = played.pipeline.asked

    assert (first.channel, first.itn, first.hints.language) == (0, True, None)
    assert (second.channel, second.itn, second.hints.language) == (1, False, "zh,en")
    assert second.hints.hotwords == ("魔搭",)
    assert first.model is second.model is None


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"model": "fun-asr", "file_urls": ["http://127.0.0.1/a"]}, 404, "ModelNotFound"),
        ({"file_urls": []}, 400, "InvalidParameter"),
        ({"file_urls": ["file:///etc/passwd"]}, 400, "InvalidParameter"),
        ({"file_urls": ["https://example.com/a.mp3"] * 4}, 400, "InvalidParameter"),
        ({"channel_id": [0, 1]}, 400, "InvalidParameter"),
        ({"channel_id": ["left"]}, 400, "InvalidParameter"),
        ({"language_hints": "zh"}, 400, "InvalidParameter"),
    ],
)
def test_a_wrong_request_is_refused_as_dashscope_does(
    how: dict[str, Any], status: int, code: str
) -> None:
    usual = {"model": "paraformer-v1", "file_urls": ["https://example.com/a.mp3"]}

    answer = Transcription.async_call(**{**usual, **how})

    assert (answer.status_code, answer.code) == (status, code)
    assert answer.message
    assert answer.request_id


def test_a_synchronous_call_is_refused(played: Played) -> None:
    body = {"model": "paraformer-v2", "input": {"file_urls": ["https://example.com/a.mp3"]}}

    answer = httpx.post(f"{played.url}/api/v1/services/audio/asr/transcription", json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")


def test_the_documents_way_to_poll_does_too(played: Played, recordings: str) -> None:
    task = submitted(f"{recordings}/a.wav").output.task_id

    polled = httpx.post(f"{played.url}/api/v1/tasks/{task}")
    listed = httpx.get(f"{played.url}/api/v1/tasks/?page_size=1")

    assert polled.json()["output"]["task_id"] == listed.json()["data"][0]["task_id"] == task


def test_a_proxy_that_ends_tls_gets_links_of_https(played: Played, recordings: str) -> None:
    task = submitted(f"{recordings}/a.wav")
    ended(task)
    headers = {"host": "asr.corp", "x-forwarded-proto": "https, http"}

    answer = httpx.get(f"{played.url}/api/v1/tasks/{task.output.task_id}", headers=headers)

    link = answer.json()["output"]["results"][0]["transcription_url"]
    assert link.startswith("https://asr.corp/api/v1/transcription-results/")
