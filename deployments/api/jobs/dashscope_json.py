"""Jobs and transcripts in the JSON of DashScope's file transcription, and its requests as ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from uuid import uuid4

from deployments.core.errors import AsrError, BadRequest, UnknownModel
from deployments.core.jobs.model import CANCELED, COMPLETED, FAILED, Json
from deployments.core.jobs.tasks import (
    OF_STATE,
    PENDING,
    RUNNING,
    STATUSES,
    SUCCEEDED,
    UNKNOWN,
    TaskQuery,
    task_status,
)
from deployments.core.text import join_words
from deployments.core.types import Transcript, Word
from deployments.core.wire import to_error_body

BEIJING = timezone(timedelta(hours=8))  # DashScope tells times in it, and names no zone
LABEL = "dashscope"  # of a job's metadata: what its client asked for
MAX_PAGE, MAX_PAGE_SIZE = 1_000_000, 100
MAX_SHOWN = 100  # characters of a name in an error
SENTENCE_ENDS = frozenset("。？！?!.…")
# What the recogniser reads, whatever the file had.
READ_AS = {"audio_format": "pcm_s16le", "original_sampling_rate": 16_000}

# DashScope's codes for the errors of a file, and for those of a request.
FILE_CODES = {
    "fetch_failed": "InvalidFile.DownloadFailed",
    "url_refused": "InvalidFile.DownloadFailed",
    "invalid_audio": "InvalidFile.Format",
    "unsupported_container": "InvalidFile.Format",
    "upload_too_large": "InvalidFile.Size",
    "audio_too_long": "InvalidFile.Duration",
    "timed_out": "RequestTimeOut",
    "bad_request": "InvalidParameter",
    "invalid_api_key": "InvalidApiKey",
    "permission_denied": "AccessDenied",
    "model_not_found": "ModelNotFound",
}
REQUEST_CODES = {
    "model_not_found": "ModelNotFound",
    "jobs_off": "AccessDenied",
    "job_not_found": "NotFound",
    "rate_limit_exceeded": "Throttling.AllocationQuota",
    "overloaded": "ServiceUnavailable",
    "storage_failed": "ServiceUnavailable",
    "timed_out": "RequestTimeOut",
}


def request_id() -> str:
    return str(uuid4())


def error_json(error: AsrError) -> tuple[int, dict[str, str], Json]:
    """The HTTP status, headers and body of an error, in DashScope's shape."""
    status, headers, body = to_error_body(error)
    otherwise = "InvalidParameter" if status < 500 else "InternalError"
    code = REQUEST_CODES.get(body["error"]["code"], otherwise)
    return status, headers, refusal(code, body["error"]["message"])


def refusal(code: str, message: str) -> Json:
    return {"request_id": request_id(), "code": code, "message": message}


def submitted_json(job: Json) -> Json:
    """The answer to a request that submits a task."""
    output = {"task_id": job["id"], "task_status": _status(job), **_warnings(job)}
    return {"request_id": request_id(), "output": output}


def unknown_json(task: str) -> Json:
    """A task that is not there, or is another key's. The SDK stops to wait for it."""
    return {"request_id": request_id(), "output": {"task_id": task, "task_status": UNKNOWN}}


def task_json(job: Json, link: Callable[[int], str]) -> Json:
    """The task of a job. `link` gives the URL of a file's transcript.

    The results are there once all files have ended, in the order of `file_urls`.
    """
    status, files = _status(job), job["files"]
    output = {
        "task_id": job["id"],
        "task_status": status,
        "submit_time": _time(job["created_at"]),
        "scheduled_time": _time(job["started_at"]),
        "end_time": _time(job["finished_at"]),
    }
    output = {name: value for name, value in output.items() if value is not None}
    body: Json = {"request_id": request_id(), "output": output}
    if status not in (PENDING, RUNNING):
        output["results"] = [_result(file, link) for file in files]
        failed = [result for result in output["results"] if "code" in result]
        if status == OF_STATE[FAILED] and failed:
            output |= {"code": failed[0]["code"], "message": failed[0]["message"]}
    output["task_metrics"] = {
        "TOTAL": len(files),
        "SUCCEEDED": sum(file["state"] == COMPLETED for file in files),
        "FAILED": sum(file["state"] == FAILED for file in files),
    }
    output |= _warnings(job)
    if status == SUCCEEDED:
        heard_s = sum(file["duration"] or 0 for file in files if file["state"] == COMPLETED)
        body["usage"] = {"duration": math.ceil(heard_s)}
    return body


def list_json(jobs: Sequence[Json], n_tasks: int, query: TaskQuery, model: str) -> Json:
    """A page of tasks. `model` is the name of those that were not submitted by this API."""
    return {
        "request_id": request_id(),
        "data": [_listed(job, model) for job in jobs],
        "page_no": query.page_no,
        "page_size": query.page_size,
        "total": n_tasks,
        "total_page": math.ceil(n_tasks / query.page_size),
    }


def transcription_json(transcript: Transcript, file: Json, channel: int) -> Json:
    """The transcript of a file, as DashScope stores it behind `transcription_url`."""
    sentences = [
        {**sentence, "sentence_id": number}
        for number, sentence in enumerate(_sentences(transcript), 1)
    ]
    return {
        "file_url": _file_url(file),
        "properties": {
            **READ_AS,
            "channels": [channel],
            "original_duration_in_milliseconds": transcript.duration_ms,
        },
        "transcripts": [
            {
                "channel_id": channel,
                "content_duration_in_milliseconds": sum(
                    segment.end_ms - segment.start_ms for segment in transcript.segments
                ),
                "text": transcript.text,
                "sentences": sentences,
            }
        ],
    }


def channel_of(job: Json) -> int:
    channel = _label(job).get("channel_id", 0)
    return channel if isinstance(channel, int) else 0


def task_query(params: Mapping[str, str]) -> TaskQuery:
    """Raises BadRequest."""
    status = params.get("status") or None
    if status is not None and status not in STATUSES:
        raise BadRequest(f"status can be {', '.join(STATUSES)}.", "status")
    return TaskQuery(
        page_no=_number(params, "page_no", 1, MAX_PAGE),
        page_size=_number(params, "page_size", 10, MAX_PAGE_SIZE),
        status=status,
        created_after_s=_seconds(params, "start_time"),
        created_before_s=_seconds(params, "end_time"),
    )


def check_model(name: object, served: str) -> str:
    """The model's name, if it means the served model. Raises BadRequest and UnknownModel."""
    if not isinstance(name, str) or not name:
        raise BadRequest("model names the model, such as paraformer-v2.", "model")
    if name != served and name.partition("-")[0] != "paraformer":
        raise UnknownModel(name[:MAX_SHOWN], (served, "paraformer-v2"))
    return name


def _label(job: Json) -> Json:
    """What this API has noted on a job. A job of our own API may have anything there."""
    found = job["metadata"].get(LABEL)
    return found if isinstance(found, dict) else {}


def _status(job: Json) -> str:
    return task_status(job["state"], [file["state"] for file in job["files"]])


def _warnings(job: Json) -> Json:
    """What the client asked for in vain. DashScope has no such field, and no client stumbles."""
    warnings = _label(job).get("warnings")
    return {"warnings": warnings} if warnings else {}


def _result(file: Json, link: Callable[[int], str]) -> Json:
    result = {"file_url": _file_url(file), "subtask_status": OF_STATE[file["state"]]}
    if file["state"] == COMPLETED:
        return result | {"transcription_url": link(file["index"])}
    if file["state"] == CANCELED:
        return result
    error = file["error"]
    code = FILE_CODES.get(error["code"], "InternalError")
    return result | {"code": code, "message": error["message"]}


def _file_url(file: Json) -> str:
    return str(file["url"] or file["name"])  # an upload has no URL


def _listed(job: Json, served: str) -> Json:
    model = _label(job).get("model", served)
    listed = {
        "task_id": job["id"],
        "status": _status(job),
        "model_name": model,
        "gmt_create": _milliseconds(job["created_at"]),
        "start_time": _milliseconds(job["started_at"]),
        "end_time": _milliseconds(job["finished_at"]),
        "user_api_unique_key": f"apikey:v1:audio:asr:transcription:{model}",
    }
    return {name: value for name, value in listed.items() if value is not None}


def _sentences(transcript: Transcript) -> Iterator[Json]:
    """Cut at the marks and at the ends of segments. A segment without words is one sentence."""
    for segment in transcript.segments:
        if not segment.words and segment.text:
            yield _sentence(segment.start_ms, segment.end_ms, segment.text, ())
        first = 0
        for number, word in enumerate(segment.words, 1):
            if SENTENCE_ENDS & {*word.mark} or number == len(segment.words):
                words = segment.words[first:number]
                yield _sentence(words[0].start_ms, word.end_ms, join_words(words), words)
                first = number


def _sentence(start_ms: int, end_ms: int, text: str, words: Sequence[Word]) -> Json:
    return {
        "begin_time": start_ms,
        "end_time": end_ms,
        "text": text,
        "words": [
            _word(word, is_apart=number < len(words) and words[number].space)
            for number, word in enumerate(words, 1)
        ],
    }


def _word(word: Word, *, is_apart: bool) -> Json:
    """A word with its mark. Joined, they are the sentence, so a space stands at the end."""
    space = " " if is_apart else ""
    return {
        "begin_time": word.start_ms,
        "end_time": word.end_ms,
        "text": word.text if word.mark else word.text + space,
        "punctuation": word.mark + space if word.mark else "",
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, BEIJING).isoformat(" ", "milliseconds")[:23]


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    sent = params.get(name) or str(default)
    found = int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 9 else 0
    if not 0 < found <= most:
        raise BadRequest(f"{name} is a number from 1 to {most}.", name)
    return found


def _seconds(params: Mapping[str, str], name: str) -> float | None:
    sent = params.get(name)
    if not sent:
        return None
    try:
        return datetime.strptime(sent, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is a time such as 20260420235959.", name) from None
