"""The head of a request is bounded in Serve's proxy, whatever part of it grows."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from itertools import repeat

import httpx
import pytest
import uvicorn
import uvicorn.config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deployments.api.pace import Paced
from deployments.api.proxy import MAX_HEAD_BYTES, BoundedHead, in_front

PIECE = b"x" * 65_536
N_PIECES = 1000  # 64 MB
START = b"POST / HTTP/1.1\r\nHost: here\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nsound\r\n0\r\n"


async def count(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a uvicorn with our protocol, which tells the length of what is posted."""
    app = Starlette(routes=[Route("/", count, methods=["POST"])])
    config = uvicorn.Config(app, http=BoundedHead, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def sent_until_closed(port: int, start: bytes, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """How many bytes the server took before it closed the connection, and what it answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        n_sent = connection.send(start)
        try:
            for piece in pieces:
                connection.sendall(piece)
                n_sent += len(piece)
        except OSError:
            pass
        try:
            return n_sent, connection.recv(65_536)
        except ConnectionResetError:
            return n_sent, b""


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(START + b"X-Long: ", PIECE, id="one line of a header"),
        pytest.param(START, b"x: y\r\n" * 10_000, id="many headers"),
        pytest.param(START, PIECE, id="the name of a header"),
        pytest.param(b"POST /", PIECE, id="the path"),
        pytest.param(b"POST /?q=", PIECE, id="the query"),
        pytest.param(START + b"Cookie: a\r\n ", b" x\r\n" * 10_000, id="a folded header"),
        pytest.param(CHUNKED + b"X-Trailer: ", PIECE, id="a trailer"),
        pytest.param(CHUNKED, b"x: y\r\n" * 10_000, id="many trailers"),
    ],
)
def test_a_head_that_does_not_end_is_cut_off(port: int, start: bytes, piece: bytes) -> None:
    n_sent, _ = sent_until_closed(port, start, repeat(piece, N_PIECES))

    assert n_sent < 10_000_000  # most of it lies in the buffers of the two sockets


def test_the_refusal_says_what_is_wrong(port: int) -> None:
    n_bytes = MAX_HEAD_BYTES + 10
    _, answer = sent_until_closed(port, START + b"X-Long: ", iter([b"x" * n_bytes]))

    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_a_header_of_half_the_limit_passes(port: int) -> None:
    headers = {"X-Long": "x" * (MAX_HEAD_BYTES // 2)}

    answer = httpx.post(f"http://127.0.0.1:{port}/", headers=headers, content=b"sound")

    assert answer.text == "5"


@pytest.mark.parametrize("n_bytes", [0, 1, 5_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_have_any_length_and_connections_any_number_of_requests(
    port: int, n_bytes: int, is_chunked: bool
) -> None:
    data = b"x" * n_bytes
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        lengths = [
            client.post("/", content=iter([data]) if is_chunked else data).text for _ in range(3)
        ]

    assert lengths == [str(n_bytes)] * 3


def test_a_body_in_many_tiny_chunks_passes(port: int) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/", content=repeat(b"x", 50_000))

    assert answer.text == "50000"


def test_a_head_that_comes_byte_by_byte_passes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for byte in START + b"Content-Length: 2\r\n\r\nok":
            connection.send(bytes([byte]))
            time.sleep(0.001)
        answer = connection.recv(65_536)

    assert answer.endswith(b"2")


def test_serve_s_proxies_get_both_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "before")

    middlewares = in_front()
    config = uvicorn.Config(Starlette())
    config.load()

    assert Paced in {middleware.cls for middleware in middlewares}
    assert config.http_protocol_class is BoundedHead
    assert issubclass(BoundedHead, HttpToolsProtocol)
