"""What Serve's HTTP proxies run for us: bounds on heads and on reading ahead, and JSON errors.

Serve calls `in_front` in every proxy whose environment names it in `CALLBACK`.
"""

from __future__ import annotations

import json

import uvicorn.config
from starlette.middleware import Middleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deployments.api.json_errors import JsonErrors
from deployments.api.pace import Paced
from deployments.core.errors import BadRequest
from deployments.core.wire import to_error_body

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
IMPORT_PATH = "deployments.api.proxy:in_front"
MAX_HEAD_BYTES = 64 * 1024  # as uvicorn bounds it where it parses with h11


def in_front() -> list[Middleware]:
    """The middlewares of the proxy. Serve has no setting for the parser, so it is set here."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHead.__name__}"
    return [Middleware(JsonErrors), Middleware(Paced)]


class BoundedHead(HttpToolsProtocol):
    """uvicorn's HTTP protocol. Its parser collects a line of any length; here it may not.

    Counted are the bytes after which the parser has given out neither a whole head nor a piece of
    a body: the request line, headers, and trailers behind a body.
    """

    _n_collected = 0

    def data_received(self, data: bytes) -> None:
        self._n_collected += len(data)
        super().data_received(data)
        if self._n_collected > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_refusal())
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._n_collected = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._n_collected = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._n_collected = 0
        super().on_message_complete()


def _refusal() -> bytes:
    """The answer to a head that is too long."""
    limit_kib = MAX_HEAD_BYTES // 1024
    error = BadRequest(f"The head of the request is longer than {limit_kib} KiB.")
    body = json.dumps(to_error_body(error)[2]).encode()
    head = (
        "HTTP/1.1 431 Request Header Fields Too Large\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
