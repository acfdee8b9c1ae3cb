"""What a path asks of the caller, what a request shows of its key, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

COOKIE = "pc_session"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/", "/page", "/healthz", "/readyz", "/openapi.json", "/v1/session")
# The links of DashScope's results are signed, and are fetched without a header.
OPEN_PREFIXES = ("/page/", "/api/v1/transcription-results/")
DASHSCOPE_PREFIX = "/api/v1/"  # whose errors have a shape of their own
PROBES = ("/healthz", "/readyz")
# Each prefix with the scope that it needs. Any key will do for other paths.
SCOPE_OF = {
    "/v1/audio/": "transcribe",
    "/v1/transcription-jobs": "jobs",
    "/api/v1/": "jobs",
}
SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request has of a key: the text of one, or a session. Both empty: nothing."""

    key: str = ""
    session: str = ""


def path_of(scope: Scope) -> str:
    """The path as the routes see it, without the prefix under which Serve has the application."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def is_open(path: str) -> bool:
    """Whether anybody may ask for it."""
    return path in OPEN or path.startswith(OPEN_PREFIXES)


def scope_of(path: str) -> str | None:
    return next((scope for prefix, scope in SCOPE_OF.items() if path.startswith(prefix)), None)


def takes_work(method: str, path: str) -> bool:
    """Whether the request counts against the limits of its key."""
    return method not in SAFE and method != "DELETE" and scope_of(path) is not None


def shown(headers: Headers) -> Shown:
    """The key of the Authorization header. The cookie counts only where there is none."""
    if "authorization" in headers:
        value = headers["authorization"]
        return Shown(key=value[len(SCHEME) :].strip() if value.lower().startswith(SCHEME) else "?")
    cookies = cookie_parser(headers["cookie"]) if "cookie" in headers else {}
    return Shown(session=cookies.get(COOKIE, ""))


def is_same_origin(headers: Headers) -> bool:
    """Whether a page of this service sent the request, as its browser says.

    A request of no page, which has neither header, does not count.
    """
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == headers.get("host", "")


def is_of_a_page(headers: Headers) -> bool:
    """Whether a browser sent the request for some page."""
    return "sec-fetch-site" in headers or "origin" in headers


def has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def announced_bytes(headers: Headers) -> int:
    """The length of the body, 0 where the request does not say it."""
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0
