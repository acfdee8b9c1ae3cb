"""Downloads from ModelScope and Hugging Face, over their plain HTTP interfaces.

The URLs are those of modelscope's `hub/api.py` and `hub/file_download.py`, and of huggingface_hub's
`hf_api.py` and `file_download.py`. Both hubs list a repository's files with sizes and, for large
files, with SHA-256. All announced hashes and sizes are compared first. If one is not the pinned
one, the source is refused before its first byte. Hugging Face announces no SHA-256 for small files,
so small files are fetched first: a wrong one is found before a checkpoint is downloaded.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx

from deployments.weights.download import (
    HTTP_ERRORS,
    Remote,
    Report,
    describe,
    download,
    http_client,
    status_of,
)
from deployments.weights.settings import Endpoints, Limits
from deployments.weights.sources import HuggingFace, ModelScope, SourceFailed, WantedFile
from deployments.weights.verify import shape_problem

Announced: TypeAlias = dict[str, tuple[str | None, int | None]]  # path -> SHA-256, bytes
UrlOf: TypeAlias = Callable[[str], str]  # the URL of a path

# A small public repository on each hub. A listing that answers proves more than an open port.
_PROBES = {
    "modelscope": (
        "modelscope",
        "/api/v1/models/iic/speech_fsmn_vad_zh-cn-16k-common-pytorch/repo/files?Revision=v2.0.4",
    ),
    "huggingface": ("hugging_face", "/api/models/funasr/fsmn-vad"),
}


def fetch_hub(
    source: ModelScope | HuggingFace,
    files: Sequence[WantedFile],
    into: Path,
    *,
    endpoints: Endpoints,
    limits: Limits,
    report: Report,
) -> None:
    """Downloads the files of a hub's repository. Raises SourceFailed or DiskFull."""
    with http_client(limits) as client:
        if isinstance(source, ModelScope):
            announced, url_of = _modelscope(client, source, endpoints.modelscope, limits)
        else:
            if endpoints.hugging_face_offline:
                raise SourceFailed("HF_HUB_OFFLINE is set")
            if endpoints.hugging_face_token:  # httpx sends it to this host only, not to the CDN
                client.headers["authorization"] = f"Bearer {endpoints.hugging_face_token}"
            announced, url_of = _hugging_face(client, source, endpoints.hugging_face, limits)
        remotes = [
            _remote(url_of(wanted.path), wanted, *announced[wanted.path])
            for wanted in _present(files, announced)
        ]
        for remote in sorted(remotes, key=lambda remote: remote.n_bytes or 0):
            download(client, remote, into, limits=limits, report=report)
            if problem := shape_problem(into / remote.path):
                (into / remote.path).unlink()
                raise SourceFailed(f"{remote.path} {problem}")


def _modelscope(
    client: httpx.Client, source: ModelScope, base_url: str, limits: Limits
) -> tuple[Announced, UrlOf]:
    repo_url = f"{base_url}/api/v1/models/{source.repo}/repo"
    revision = quote(source.revision, safe="")
    listing = _listing(client, f"{repo_url}/files?Revision={revision}&Recursive=true", limits)
    data = listing.get("Data")
    entries = data.get("Files") if isinstance(data, dict) else None
    if entries is None:
        raise SourceFailed(f"no list of files: {listing.get('Message') or 'no message'}")
    announced = {
        str(entry["Path"]): (entry.get("Sha256") or None, entry.get("Size"))
        for entry in entries
        if entry.get("Type") != "tree"
    }
    return announced, lambda path: f"{repo_url}?Revision={revision}&FilePath={quote(path, safe='')}"


def _hugging_face(
    client: httpx.Client, source: HuggingFace, base_url: str, limits: Limits
) -> tuple[Announced, UrlOf]:
    url = f"{base_url}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}"
    listing = _listing(client, f"{url}?blobs=true", limits)
    siblings = listing.get("siblings")
    if siblings is None:
        raise SourceFailed("no list of files")
    announced = {
        str(entry["rfilename"]): ((entry.get("lfs") or {}).get("sha256"), entry.get("size"))
        for entry in siblings
    }
    # The commit of the listing, so that all files come from the same commit.
    commit = quote(listing.get("sha") or source.revision, safe="")
    return announced, lambda path: f"{base_url}/{source.repo}/resolve/{commit}/{quote(path)}"


def _present(files: Sequence[WantedFile], announced: Announced) -> list[WantedFile]:
    """The wanted files that the hub lists. Raises SourceFailed if a required one is missing."""
    missing = [f.path for f in files if f.path not in announced and not f.optional]
    if missing:
        raise SourceFailed(f"the repository has no {', '.join(missing)}")
    return [file for file in files if file.path in announced]


def _remote(url: str, wanted: WantedFile, sha256: str | None, n_bytes: int | None) -> Remote:
    """The file's URL, with the hash and size that the download is checked against.

    The announced hash is used, and must be one of the pinned ones if there are any. Raises
    SourceFailed if it is not.
    """
    if wanted.sha256 and sha256 and sha256 not in wanted.sha256:
        raise SourceFailed(
            f"{wanted.path}: the hub announces SHA-256 {sha256}, "
            f"not the pinned {' or '.join(wanted.sha256)}"
        )
    if not wanted.sha256 and None not in (n_bytes, wanted.n_bytes) and n_bytes != wanted.n_bytes:
        raise SourceFailed(
            f"{wanted.path}: the hub announces {n_bytes} bytes, not the expected {wanted.n_bytes}"
        )
    known = (sha256,) if sha256 else wanted.sha256
    size = n_bytes if n_bytes is not None or wanted.sha256 else wanted.n_bytes
    return Remote(url, wanted.path, known, size)


def _listing(client: httpx.Client, url: str, limits: Limits) -> dict[str, Any]:
    """A hub's JSON answer. Retries if the hub is busy. Raises SourceFailed."""
    for attempt in range(limits.tries):
        try:
            response = client.get(url)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise SourceFailed(describe(error)) from error
        except HTTP_ERRORS as error:
            problem = describe(error)
        else:
            if response.status_code == 200:
                return _json_object(response)
            problem = status_of(response)
            if response.status_code < 500 and response.status_code not in (403, 429):
                break  # ModelScope and its mirrors answer 403 where they are asked too often
        if attempt + 1 < limits.tries:
            limits.sleep_s(limits.backoff_s * 2**attempt)
    raise SourceFailed(problem)


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError as error:
        raise SourceFailed(f"not JSON from {response.url}: {error}") from error
    if not isinstance(content, dict):
        raise SourceFailed(f"not a JSON object from {response.url}")
    return content


def probe(endpoints: Endpoints, *, timeout_s: float) -> list[str]:
    """The hubs that answer within `timeout_s`; they are asked at the same time.

    After `timeout_s` the threads are abandoned, because the wait for a name server that does not
    answer cannot be interrupted.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask(hub: str, url: str) -> None:
        try:
            with http_client(Limits(connect_s=timeout_s, stall_s=timeout_s)) as client:
                answers.put(hub if client.get(url).status_code == 200 else None)
        except HTTP_ERRORS:
            answers.put(None)

    for hub, (attribute, path) in _PROBES.items():
        url = getattr(endpoints, attribute) + path
        threading.Thread(target=ask, args=(hub, url), daemon=True).start()
    return sorted(_collect(answers, len(_PROBES), deadline_s=time.monotonic() + timeout_s))


def _collect(
    answers: queue.SimpleQueue[str | None], n_answers: int, *, deadline_s: float
) -> list[str]:
    found: list[str] = []
    for _ in range(n_answers):
        try:
            answer = answers.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            break
        if answer is not None:
            found.append(answer)
    return found
