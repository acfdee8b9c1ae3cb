"""The recording of a job's file, its waveform and its transcript, from the stored objects."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deployments.api.jobs.requests import called, named, number_of
from deployments.core.errors import BadRequest, UnknownJob
from deployments.core.formats import FORMATS, GRANULARITIES
from deployments.core.jobs.edits import edited
from deployments.core.jobs.model import Json
from deployments.core.jobs.objects import peaks_key
from deployments.core.subtitles import lrc
from deployments.core.types import Transcript
from deployments.objects import NoObject, Objects, transcript_of

RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")
DEFAULT_FORMAT = "json"
# What an edit may hold and XML may not: control characters and two that are no characters.
NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# The page plays a recording. What is no sound to a browser must not be a page to it either.
PLAYABLE = re.compile(r"(audio|video)/[\w.+-]+\Z")


@dataclass(frozen=True, slots=True)
class Export:
    """A format of a result. It gives the bytes of a file."""

    media_type: str
    render: Callable[[Transcript], bytes]
    extension: str


def _export(name: str) -> Export:
    form = FORMATS[name]
    return Export(
        form.media_type, lambda found: form.render(found, GRANULARITIES).encode(), form.extension
    )


def docx(transcript: Transcript) -> bytes:
    """A document of Word: each segment a paragraph, behind the time at which it begins."""
    from docx import Document  # slow to import, and for this alone

    document = Document()
    for segment in transcript.segments:
        if not segment.text:
            continue
        minutes, seconds = divmod(segment.start_ms // 1000, 60)
        hours, minutes = divmod(minutes, 60)
        paragraph = document.add_paragraph()
        paragraph.add_run(f"[{hours:02d}:{minutes:02d}:{seconds:02d}] ").italic = True
        paragraph.add_run(NOT_IN_XML.sub("", segment.text))
    file = BytesIO()
    document.save(file)
    return file.getvalue()


EXPORTS: dict[str, Export] = {
    **{name: _export(name) for name in FORMATS},
    "lrc": Export("application/x-lrc; charset=utf-8", lambda found: lrc(found).encode(), "lrc"),
    "docx": Export(WORD, docx, "docx"),
}


class JobFiles:
    """The endpoints. `jobs` is the handle of the deployment, or anything that answers like it."""

    def __init__(self, jobs: Any, objects: Objects) -> None:
        self._jobs, self._objects = jobs, objects

    async def result(self, request: Request) -> Response:
        """The transcript in the format that is asked for, with the edits if they are asked for."""
        params = request.query_params
        name = params.get("format") or DEFAULT_FORMAT
        if name not in EXPORTS:
            raise BadRequest(f"format can be {', '.join(EXPORTS)}.", "format")
        file = await self._file(request)
        transcript = await self._transcript(request, file)
        export, edits = EXPORTS[name], dict[int, str]()
        if params.get("edited", "").lower() in ("1", "true", "yes"):
            edits = {int(index): text for index, text in file["edits"].items()}
        # In a thread: ten hours take a second.
        body = await asyncio.to_thread(lambda: export.render(edited(transcript, edits)))
        headers = {"Cache-Control": "private, no-cache"}
        if params.get("download", "").lower() in ("1", "true", "yes"):
            stem = file["name"].rpartition(".")[0] or file["name"]
            headers["Content-Disposition"] = _attachment(f"{stem}.{export.extension}")
        return Response(body, media_type=export.media_type, headers=headers)

    async def audio(self, request: Request) -> Response:
        """The recording as it was sent, whole or the range that is asked for."""
        file = await self._file(request)
        key = file["object_key"]
        if key is None:
            raise UnknownJob("the recording, which is not fetched yet")
        try:
            n_bytes = await self._objects.size(key)
        except NoObject:
            raise UnknownJob("the recording") from None
        guessed = mimetypes.guess_type(file["name"])[0] or ""
        kind = guessed if PLAYABLE.match(guessed) else "application/octet-stream"
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        }
        asked = RANGE.match(request.headers.get("range", ""))
        first, end = _span(asked, n_bytes) if asked else (0, n_bytes)
        if first >= end:
            refused = {**headers, "Content-Range": f"bytes */{n_bytes}"}
            return Response(status_code=416, headers=refused)
        if asked:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{n_bytes}"
        headers["Content-Length"] = str(end - first)
        pieces = self._objects.pieces(key, first, end)
        return StreamingResponse(pieces, 206 if asked else 200, headers, kind)

    async def peaks(self, request: Request) -> Response:
        job, _ = named(request)
        await self._file(request)
        try:
            body = await self._objects.get(peaks_key(job, number_of(request)))
        except NoObject:
            raise UnknownJob("the waveform, which is not known yet") from None
        return Response(body, media_type="application/json")

    def routes(self, path: str) -> list[Route]:
        return [
            Route(f"{path}/{{job}}/result", self.result, methods=["GET"]),
            Route(f"{path}/{{job}}/audio", self.audio, methods=["GET"]),
            Route(f"{path}/{{job}}/peaks", self.peaks, methods=["GET"]),
        ]

    async def _file(self, request: Request) -> Json:
        job, owner = named(request)
        return await called(self._jobs.file.remote(job, number_of(request), owner))

    async def _transcript(self, request: Request, file: Json) -> Transcript:
        job, _ = named(request)
        return await transcript_of(self._objects, job, number_of(request), file)


def _span(asked: re.Match[str], n_bytes: int) -> tuple[int, int]:
    """The bytes [first, end) that a Range header asks for."""
    first, last = asked.groups()
    if not first:  # the last bytes
        return (max(0, n_bytes - int(last)), n_bytes) if last else (0, 0)
    return int(first), min(n_bytes, int(last) + 1) if last else n_bytes


def _attachment(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
