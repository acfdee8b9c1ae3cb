"""Jobs and transcripts as DashScope's JSON, and the signature of links: pure functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deployments.api.jobs.dashscope import SUBMIT, TASKS
from deployments.api.jobs.dashscope_json import (
    error_json,
    task_json,
    task_query,
    transcription_json,
)
from deployments.api.jobs.endpoints import job_routes
from deployments.api.jobs.links import GOOD_FOR_S, is_good, signed
from deployments.config import Limits
from deployments.core.errors import (
    AsrError,
    BadRequest,
    JobsOff,
    LimitExceeded,
    StorageFailed,
    UnknownModel,
    UrlRefused,
)
from deployments.core.jobs.model import State, job_state
from deployments.core.jobs.tasks import OF_STATE, TaskQuery, task_status
from deployments.core.types import Transcript
from deployments.service_settings import Fetch, JobsSettings
from tests.clients.fakes import ENGINE
from tests.core.transcripts import PARAFORMER, SILENCE, WHISPER, transcripts

FILE = {"url": "https://example.com/a.mp3", "name": "a.mp3"}
SECRET, NOW_S = "s3cret", 1_790_000_000.0


def job(*states: State, **changes: Any) -> dict[str, Any]:
    files = [
        {
            "index": number,
            "url": f"https://example.com/{number}",
            "name": str(number),
            "state": state,
            "duration": 1.5,
            "error": {"code": "overloaded", "message": "Busy."} if state == "failed" else None,
        }
        for number, state in enumerate(states)
    ]
    made = {
        "id": "job_1",
        "state": job_state(list(states)),
        "created_at": 0.0,
        "started_at": 1.25,
        "finished_at": 61.0015,
        "metadata": {},
        "files": files,
    }
    return made | changes


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["queued", "queued"], "PENDING"),
        (["queued", "processing"], "RUNNING"),
        (["completed", "queued"], "RUNNING"),
        (["completed", "completed"], "SUCCEEDED"),
        (["completed", "failed"], "SUCCEEDED"),
        (["failed", "failed"], "FAILED"),
        (["completed", "canceled"], "CANCELED"),
        (["failed", "canceled"], "CANCELED"),
    ],
)
def test_one_file_that_succeeded_is_enough_for_a_task(states: list[State], status: str) -> None:
    assert task_status(job_state(states), states) == status


def test_times_are_those_of_beijing() -> None:
    output = task_json(job("completed"), str)["output"]

    assert output["submit_time"] == "1970-01-01 08:00:00.000"
    assert output["scheduled_time"] == "1970-01-01 08:00:01.250"
    assert output["end_time"].startswith("1970-01-01 08:01:01.00")


def test_a_task_that_runs_has_no_results_yet() -> None:
    body = task_json(job("completed", "processing", finished_at=None), str)

    assert "results" not in body["output"]
    assert "end_time" not in body["output"]
    assert "usage" not in body
    assert body["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 0}


def test_only_what_was_recognised_is_counted_as_used() -> None:
    body = task_json(job("completed", "failed", "completed"), lambda number: f"link {number}")

    assert body["usage"] == {"duration": 3}
    assert [one.get("transcription_url") for one in body["output"]["results"]] == [
        "link 0",
        None,
        "link 2",
    ]


def test_every_state_has_its_subtask_status() -> None:
    body = task_json(job("completed", "failed", "canceled"), str)

    statuses = [one["subtask_status"] for one in body["output"]["results"]]
    assert statuses == [OF_STATE["completed"], OF_STATE["failed"], OF_STATE["canceled"]]
    assert body["output"]["results"][1]["code"] == "InternalError"


def test_sentences_end_at_marks_and_at_the_ends_of_segments() -> None:
    found = transcription_json(PARAFORMER, FILE, 0)["transcripts"][0]

    assert [(one["sentence_id"], one["text"]) for one in found["sentences"]] == [
        (1, "今天天气很好，我们去公园。"),
        (2, "你 hello world 吗？"),
    ]
    assert [(one["text"], one["punctuation"]) for one in found["sentences"][1]["words"]] == [
        ("你 ", ""),
        ("hello ", ""),
        ("world ", ""),
        ("吗", "？"),
    ]


def test_an_engine_without_word_times_has_a_sentence_for_each_segment() -> None:
    found = transcription_json(WHISPER, FILE, 1)["transcripts"][0]

    assert [one["text"] for one in found["sentences"]] == [s.text for s in WHISPER.segments]
    assert [one["words"] for one in found["sentences"]] == [[], []]
    assert found["channel_id"] == 1


def test_silence_has_no_sentence() -> None:
    found = transcription_json(SILENCE, FILE, 0)["transcripts"][0]

    assert (found["text"], found["sentences"]) == ("", [])
    assert found["content_duration_in_milliseconds"] == 0


@given(transcripts())
def test_words_and_marks_joined_are_the_sentence(transcript: Transcript) -> None:
    found = transcription_json(transcript, FILE, 0)["transcripts"][0]

    timed = [one for one in found["sentences"] if one["words"]]
    joined = ["".join(w["text"] + w["punctuation"] for w in one["words"]) for one in timed]
    assert joined == [one["text"] for one in timed]
    begins = [one["begin_time"] for one in found["sentences"]]
    assert begins == sorted(begins)
    assert all(one["begin_time"] <= one["end_time"] for one in found["sentences"])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("No."), 400, "InvalidParameter"),
        (UrlRefused("No."), 400, "InvalidParameter"),
        (UnknownModel("x"), 404, "ModelNotFound"),
        (JobsOff("No."), 404, "AccessDenied"),
        (LimitExceeded("No.", 3.0), 429, "Throttling.AllocationQuota"),
        (StorageFailed(3.0), 503, "ServiceUnavailable"),
        (AsrError("No."), 500, "InternalError"),
    ],
)
def test_errors_have_dashscope_s_shape(error: AsrError, status: int, code: str) -> None:
    answered, _, body = error_json(error)

    assert (answered, body["code"], body["message"]) == (status, code, str(error))
    assert body.keys() == {"request_id", "code", "message"}


def test_a_busy_service_says_when_to_come_back() -> None:
    assert error_json(StorageFailed(3.0))[1] == {"Retry-After": "3"}


def test_a_query_of_the_list_is_read() -> None:
    sent = {"page_no": "2", "page_size": "5", "status": "FAILED", "start_time": "19700101080001"}

    assert task_query(sent) == TaskQuery(2, 5, "FAILED", created_after_s=1.0)
    assert task_query({}) == TaskQuery()


@pytest.mark.parametrize(
    "sent",
    [
        {"page_no": "0"},
        {"page_no": "-1"},
        {"page_no": "٣"},
        {"page_size": "101"},
        {"status": "DONE"},
        {"start_time": "yesterday"},
        {"end_time": "2026"},
    ],
)
def test_an_odd_query_is_refused(sent: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        task_query(sent)

    assert caught.value.param in sent


def test_a_link_is_good_for_its_file_and_for_a_day() -> None:
    query = signed(SECRET, "job_1", 0, NOW_S)

    assert is_good(SECRET, "job_1", 0, query, NOW_S)
    assert is_good(SECRET, "job_1", 0, query, NOW_S + GOOD_FOR_S - 1)
    assert not is_good(SECRET, "job_1", 0, query, NOW_S + GOOD_FOR_S)
    assert not is_good(SECRET, "job_1", 1, query, NOW_S)
    assert not is_good(SECRET, "job_2", 0, query, NOW_S)
    assert not is_good("another", "job_1", 0, query, NOW_S)
    assert SECRET not in str(query)


@given(st.dictionaries(st.sampled_from(["Expires", "Signature"]), st.text(max_size=50)))
def test_no_other_query_is_good(query: dict[str, str]) -> None:
    assert not is_good(SECRET, "job_1", 0, query, 0.0)


def test_a_longer_life_is_another_signature() -> None:
    query = signed(SECRET, "job_1", 0, NOW_S)

    later = query | {"Expires": str(int(query["Expires"]) + 1)}

    assert not is_good(SECRET, "job_1", 0, later, NOW_S)


@pytest.mark.parametrize("path", [SUBMIT, TASKS, f"{TASKS}/job_1", f"{TASKS}/job_1/cancel"])
def test_where_there_are_no_jobs_the_setting_is_named(path: str) -> None:
    routes = job_routes(None, ENGINE, Limits(), Fetch(), JobsSettings(), None)

    answer = TestClient(Starlette(routes=routes)).post(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "AccessDenied")
    assert "jobs.enabled" in answer.json()["message"]
