"""What a program does with the SDK, without its sleeps of a second."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from dashscope.audio.asr import Transcription


def ended(task: Any) -> Any:
    """The task once it has ended. `Transcription.wait` would sleep for a second."""
    until_s = time.monotonic() + 30
    while (found := Transcription.fetch(task)).output.task_status in ("PENDING", "RUNNING"):
        assert time.monotonic() < until_s, found
        time.sleep(0.05)
    return Transcription.wait(task)


def running(task: Any) -> None:
    until_s = time.monotonic() + 30
    while Transcription.fetch(task).output.task_status != "RUNNING":
        assert time.monotonic() < until_s
        time.sleep(0.05)


def submitted(*urls: str, **parameters: Any) -> Any:
    task = Transcription.async_call(model="paraformer-v2", file_urls=[*urls], **parameters)
    assert task.status_code == HTTPStatus.OK, task
    return task
