"""A small service in memory that answers as the contract of transcription jobs says.

A test holds a job at a step by `held`, and lets it go on by clearing it. Nothing is recognised: the
text is that of the sample meeting.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api.page import files
from tests.page.material import DURATION_S, MEETING, Json, meeting, peaks_of_meeting, words_of

JOBS = "/v1/transcription-jobs"
STEP_S = 0.02
OVER = ("completed", "failed", "canceled")


def problem(status: int, message: str, code: str) -> JSONResponse:
    """An error in OpenAI's form."""
    return JSONResponse({"error": {"message": message, "code": code}}, status)


@dataclass
class Service:
    """All that the fake knows, and how a test steers it."""

    script: list[Json] = field(default_factory=meeting)
    audio: Path = MEETING
    duration_s: float = DURATION_S
    jobs: dict[str, Json] = field(default_factory=dict)
    segments: dict[str, list[Json]] = field(default_factory=dict)
    edits: dict[str, Json] = field(default_factory=dict)
    sent: list[Json] = field(default_factory=list)  # what each new job was made from
    held: set[str] = field(default_factory=set)  # queued, begun, halfway
    refuses: str | None = None  # the sentence of a job that fails
    down: bool = False  # every request to /v1 is a 503, and streams are cut
    jobs_on: bool = True
    key: str | None = None  # what signs in, where keys are required
    resumed_after: list[int] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def make(self, name: str, *, state: str = "queued", created_at: float | None = None) -> Json:
        """A new job with one file."""
        number = len(self.jobs) + 1
        file = {"index": 0, "name": name, "bytes": 1_234_567, "duration": None, "error": None}
        job: Json = {
            "id": f"job_{number:04}",
            "object": "transcription_job",
            "name": name,
            "state": state,
            "created_at": created_at or time.time(),
            "progress": {"audio_s_done": 0.0, "audio_s_total": None},
            "queue_position": 2 if state == "queued" else None,
            "expected_end_at": None,
            "files": [file],
        }
        if state == "completed":
            job["progress"] = {"audio_s_done": self.duration_s, "audio_s_total": self.duration_s}
            file["duration"] = self.duration_s
        self.jobs[job["id"]] = job
        self.segments[job["id"]] = list(self.script) if state == "completed" else []
        return job

    async def work(self, job: Json) -> None:
        """Takes a job through its states."""
        for position in (2, 1, 0):
            job["queue_position"] = position
            await asyncio.sleep(STEP_S)
        await self._let_go("queued")
        job |= {"state": "processing", "queue_position": None, "expected_end_at": time.time() + 60}
        job["progress"]["audio_s_total"] = job["files"][0]["duration"] = self.duration_s
        await self._let_go("begun")
        if self.refuses:
            job["files"][0]["error"] = {"code": "invalid_audio", "message": self.refuses}
            job["state"] = "failed"
            return
        for segment in self.script:
            if job["state"] == "canceled":
                return
            if segment["index"] == len(self.script) // 2:
                await self._let_go("halfway")
            self.segments[job["id"]].append(segment)
            job["progress"]["audio_s_done"] = segment["end"]
            await asyncio.sleep(STEP_S)
        job["state"] = "completed"

    async def _let_go(self, step: str) -> None:
        while step in self.held:  # noqa: ASYNC110 - the test clears it from another thread
            await asyncio.sleep(STEP_S)

    # Endpoints ------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        async with request.form() as form:
            file = form.get("file")
            content = await file.read() if isinstance(file, UploadFile) else b""
            key = request.headers.get("idempotency-key")
            self.sent.append({**form, "content": content, "key": key})
            job = self.make(str(form.get("name")))
        task = asyncio.create_task(self.work(job))
        self.tasks.add(task)
        return JSONResponse(job, 202)

    async def listed(self, request: Request) -> Response:
        if not self.jobs_on:
            return problem(404, "Jobs are off here.", "jobs_off")
        newest = sorted(self.jobs.values(), key=lambda job: -job["created_at"])
        start, limit = int(request.query_params.get("after", 0)), int(request.query_params["limit"])
        more = len(newest) > start + limit
        body = {"data": newest[start : start + limit], "has_more": more}
        return JSONResponse({**body, "next_cursor": str(start + limit) if more else None})

    async def one(self, request: Request) -> Response:
        job = self._job(request)
        if request.method == "PATCH":
            job["name"] = (await request.json())["name"]
        if request.method == "DELETE":
            del self.jobs[job["id"]]
            return Response(status_code=204)
        return JSONResponse(job)

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        job["state"] = "canceled"
        return JSONResponse(job)

    async def events(self, request: Request) -> Response:
        job = self._job(request)
        after = int(request.headers.get("last-event-id") or request.query_params.get("after", 0))
        self.resumed_after.append(after)
        return StreamingResponse(self._events(job, after), media_type="text/event-stream")

    async def _events(self, job: Json, after: int) -> AsyncIterator[str]:
        told = ""
        while not self.down:
            for segment in self.segments[job["id"]][after:]:
                after += 1
                yield f"id: {after}\ndata: {json.dumps({'type': 'segment', **segment})}\n\n"
            if (now := json.dumps({"type": "job", "job": job})) != told:
                told = now
                yield f"data: {now}\n\n"
            if job["state"] in OVER:
                yield "data: [DONE]\n\n"
                return
            await asyncio.sleep(STEP_S)

    async def result(self, request: Request) -> Response:
        job = self._job(request)
        edits = self.edits.get(job["id"], {}) if "edited" in request.query_params else {}
        texts = [edits.get(str(s["index"]), s["text"]) for s in self.script]
        if request.query_params["format"] == "detailed_json":
            segments = [
                {"text": text, "words": words_of(s)}
                for s, text in zip(self.script, texts, strict=True)
            ]
            return JSONResponse({"segments": segments})
        return Response(f"{request.query_params['format']}\n" + "\n".join(texts))

    async def sound(self, request: Request) -> Response:
        self._job(request)
        return FileResponse(self.audio)

    async def peaks(self, request: Request) -> Response:
        job = self._job(request)
        if job["state"] == "queued":
            return problem(404, "It is not decoded yet.", "no_peaks")
        encoded = base64.b64encode(peaks_of_meeting()).decode()
        return JSONResponse({"per_second": 20, "duration": self.duration_s, "peaks": encoded})

    async def edited(self, request: Request) -> Response:
        job = self._job(request)
        if request.method == "PUT":
            self.edits[job["id"]] = (await request.json())["segments"]
        return JSONResponse({"segments": self.edits.get(job["id"], {})})

    async def session(self, request: Request) -> Response:
        if self.key is None:
            return problem(404, "There is no such path.", "not_found")
        signed_in = request.cookies.get("session") == self.key
        if request.method == "POST":
            if (await request.json())["key"] != self.key:
                return problem(401, "The key is wrong.", "invalid_key")
            answer = JSONResponse({"signed_in": True})
            answer.set_cookie("session", self.key, httponly=True, samesite="strict")
            return answer
        return JSONResponse({"signed_in": signed_in, "keys_required": True})

    async def transcribe(self, request: Request) -> Response:
        async with request.form():
            pass
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        for i, s in enumerate(self.script):
            if i == 3:
                await self._let_go("halfway")
            yield f"data: {json.dumps({'type': 'transcript.text.delta', 'delta': s['text']})}\n\n"
        segments = [
            {"start_ms": s["start"] * 1000, "end_ms": s["end"] * 1000, "text": s["text"]}
            | {"words": words_of(s)}
            for s in self.script
        ]
        done = {"type": "transcript.text.done", "transcript": {"segments": segments}}
        yield f"data: {json.dumps(done)}\n\ndata: [DONE]\n\n"

    def _job(self, request: Request) -> Json:
        job: Json | None = self.jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404)
        return job


class Gate:
    """What stands before the endpoints: a service that is down, or that wants a key."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/v1") and self._service.down:
            await problem(503, "The service is restarting.", "overloaded")(scope, receive, send)
            return
        is_locked = self._service.key and "session" not in path and path.startswith("/v1")
        if is_locked and Request(scope).cookies.get("session") != self._service.key:
            await problem(401, "A key is needed.", "unauthorized")(scope, receive, send)
            return
        await self._app(scope, receive, send)


def application(service: Service) -> ASGIApp:
    """The fake with the real page before it."""
    one = JOBS + "/{id}"
    routes = [
        *files.ROUTES,
        Route(JOBS, service.create, methods=["POST"]),
        Route(JOBS, service.listed),
        Route(one, service.one, methods=["GET", "PATCH", "DELETE"]),
        Route(one + "/cancel", service.cancel, methods=["POST"]),
        Route(one + "/events", service.events),
        Route(one + "/result", service.result),
        Route(one + "/audio", service.sound),
        Route(one + "/peaks", service.peaks),
        Route(one + "/edits", service.edited, methods=["GET", "PUT"]),
        Route("/v1/session", service.session, methods=["GET", "POST", "DELETE"]),
        Route("/v1/audio/transcriptions", service.transcribe, methods=["POST"]),
    ]
    return Gate(Starlette(routes=routes), service)
