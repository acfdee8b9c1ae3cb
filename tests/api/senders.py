"""Clients that send large uploads, as an ASGI server hands them on."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import psutil
from starlette.requests import Request

from benchmarks.service.footprint import temporary_files
from deployments.api.form import Form, read_form
from deployments.config import Limits
from tests.clients.fakes import ENGINE

MIB = 1024 * 1024
PIECE = bytes(range(256)) * 256  # 64 KiB, as Serve's proxy sends them
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"
MULTIPART = "multipart/form-data; boundary=b"
LARGE = 3 * MIB


def left(spool: Path) -> list[str]:
    """Files in the directory, and unnamed ones that this process still has open."""
    gc.collect()
    return temporary_files(spool, [psutil.Process()])


class Sender:
    """An ASGI server that receives a file of so many bytes. It counts what was taken from it."""

    def __init__(self, n_bytes: int) -> None:
        pieces = [HEAD, *[PIECE] * (n_bytes // len(PIECE)), PIECE[: n_bytes % len(PIECE)], TAIL]
        self._pieces = iter(pieces)
        self._n_left = len(pieces)
        self.n_bytes = 0

    async def __call__(self) -> dict[str, Any]:
        piece = next(self._pieces)
        self._n_left -= 1
        self.n_bytes += len(piece)
        return {"type": "http.request", "body": piece, "more_body": self._n_left > 0}


async def form_of(sender: Sender, *, max_upload_mb: float = 2048) -> Form:
    scope = {
        "type": "http",
        "method": "POST",
        "query_string": b"",
        "headers": [(b"content-type", MULTIPART.encode())],
    }
    return await read_form(Request(scope, sender), Limits(max_upload_mb=max_upload_mb), ENGINE)
