"""Serves the files of the page, with a policy that lets it load nothing from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # media-src blob: a fresh recording is heard before it is sent.
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" some requests have the origin "null"
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",  # asked for each time, and answered by 304
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def files() -> dict[str, File]:
    """Every file of the page by its path below the folder of the page."""
    found = [path for path in STATIC.rglob("*") if path.suffix in MEDIA_TYPES]
    return {path.relative_to(STATIC).as_posix(): _read(path) for path in found}


def _read(path: Path) -> File:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return File(content, gzip.compress(content, mtime=0), MEDIA_TYPES[path.suffix], etag)


async def index(request: Request) -> Response:
    """The page itself."""
    return _answer(request, "index.html")


async def file(request: Request) -> Response:
    """A script, the style or the icons."""
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    found = files().get(name)
    if found is None:
        raise HTTPException(404)
    headers = {**HEADERS, "ETag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, headers=headers, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


# What the application adds to its own endpoints.
ROUTES = (Route("/", index), Route("/page/{name:path}", file))
