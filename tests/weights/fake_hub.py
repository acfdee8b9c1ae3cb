"""A fake ModelScope and Hugging Face on loopback, with the real URLs, that can misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deployments.weights.download import USER_AGENT
from deployments.weights.settings import Endpoints

COMMIT = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
_LARGE_SUFFIXES = (".pt", ".bin", ".onnx")  # files in git-lfs, which redirect to a CDN


@dataclass(frozen=True)
class Seen:
    """A request for a file's content: its path, its range, and the number of bytes sent."""

    path: str
    range: str | None
    n_bytes: int


@dataclass
class FakeHub:
    """The repositories, the requests so far, and how the hub is to misbehave.

    `cut_after`: the next longer responses end after these numbers of bytes, and the hub hangs up.
    `statuses`: the next responses are these HTTP errors. `stall_after`: every file's content stops
    after this number of bytes, and the connection stays open.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)  # each request's Authorization
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    stall_after: int | None = None
    resumes: bool = True
    says_length: bool = True  # otherwise the content ends with the connection
    announced_sha256: str | None = None  # of large files, in place of the true one
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(modelscope=self.url, hugging_face=self.url)

    def content_requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def sha256(self, path: str, content: bytes) -> str:
        told = self.announced_sha256 if path.endswith(_LARGE_SUFFIXES) else None
        return told or hashlib.sha256(content).hexdigest()

    def modelscope_listing(self, repo: str, revision: str) -> dict[str, Any]:
        entries = [
            {
                "Name": path.rsplit("/", 1)[-1],
                "Path": path,
                "Revision": revision,
                "Sha256": self.sha256(path, content),
                "Size": len(content),
                "Type": "blob",
            }
            for path, content in self.repos[repo].items()
        ]
        folder = {"Name": "example", "Path": "example", "Size": 0, "Sha256": "", "Type": "tree"}
        return {"Code": 200, "Data": {"Files": [folder, *entries]}, "Success": True}

    def hugging_face_listing(self, repo: str) -> dict[str, Any]:
        siblings = []
        for path, content in self.repos[repo].items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if path.endswith(_LARGE_SUFFIXES):
                entry["lfs"] = {"sha256": self.sha256(path, content), "size": len(content)}
            siblings.append(entry)
        return {"id": repo, "sha": COMMIT, "siblings": siblings}


class _Server(ThreadingHTTPServer):
    """Serves one hub on a free port of loopback."""

    daemon_threads = True

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a killed client is no error


class _Handler(BaseHTTPRequestHandler):
    """Answers requests as the hub of its server."""

    server: _Server
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        if self.headers.get("User-Agent") != USER_AGENT:
            # Another process on this machine may still ask for the port's former owner.
            return self._json(404, {})
        self.hub.asked.append(self.path)
        self.hub.tokens.append(self.headers.get("Authorization"))
        if self.hub.statuses:
            return self._json(self.hub.statuses.pop(0), {"Message": "as told"})
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            self._route(parts, query)
        except KeyError:
            self._json(404, {"Code": 404, "Message": "record not found", "Success": False})

    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        match parts:
            case ["api", "v1", "models", owner, name, "repo", "files"]:
                self._json(200, self.hub.modelscope_listing(f"{owner}/{name}", query["Revision"]))
            case ["api", "v1", "models", owner, name, "repo"]:
                path = query["FilePath"]
                self._content(path, self.hub.repos[f"{owner}/{name}"][path])
            case ["api", "models", owner, name, "revision", _]:
                self._json(200, self.hub.hugging_face_listing(f"{owner}/{name}"))
            case ["api", "models", owner, name]:
                self._json(200, self.hub.hugging_face_listing(f"{owner}/{name}"))
            case ["cdn", owner, name, *path]:
                self._content("/".join(path), self.hub.repos[f"{owner}/{name}"]["/".join(path)])
            case [owner, name, "resolve", revision, *path] if revision == COMMIT:
                self._resolve(f"{owner}/{name}", "/".join(path))
            case _:
                raise KeyError(parts)

    def _resolve(self, repo: str, path: str) -> None:
        content = self.hub.repos[repo][path]
        if not path.endswith(_LARGE_SUFFIXES):
            return self._content(path, content)
        self.send_response(302)
        self.send_header("Location", f"{self.hub.url}/cdn/{repo}/{path}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Linked-ETag", f'"{self.hub.sha256(path, content)}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self, path: str, content: bytes) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and self.hub.resumes else 0
        if start >= len(content):
            return self._json(416, {"Message": "range not satisfiable"})
        rest = content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        if self.hub.says_length:
            self.send_header("Content-Length", str(len(rest)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        sent = rest[: self._allowed(len(rest))]
        self.hub.seen.append(Seen(path, asked, len(sent)))
        self.wfile.write(sent)
        if len(sent) < len(rest):
            self.wfile.flush()
            if self.hub.stall_after is not None:
                self.hub.released.wait(30)
            self.close_connection = True

    def _allowed(self, n_bytes: int) -> int:
        if self.hub.stall_after is not None:
            return min(n_bytes, self.hub.stall_after)
        cut = self.hub.cut_after and self.hub.cut_after[0] < n_bytes
        return self.hub.cut_after.pop(0) if cut else n_bytes


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves `hub` on a free port of loopback; `hub.url` says where."""
    server = _Server(hub)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
