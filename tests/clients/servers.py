"""Small real servers on loopback: one with canned answers, and a proxy for SOCKS."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deployments.core.formats import FORMATS
from tests.core.transcripts import PARAFORMER

FINE = (200, {"Content-Type": "application/json"}, FORMATS["detailed_json"].render(PARAFORMER, ()))
# What uvicorn sends where Serve's proxy has no answer, because the replica died.
BARE_500 = (500, {"Content-Type": "text/plain; charset=utf-8"}, "Internal Server Error")
NO_ROUTE = (
    404,
    {"Content-Type": "text/plain; charset=utf-8"},
    "Path '/v1/audio/transcriptions' not found. Ping http://.../-/routes for available routes.",
)
HANG_UP = None  # closes the connection without an answer

Canned = tuple[int, dict[str, str], str] | None


@dataclass
class Canning:
    """A server that gives the answers in turn, the last one for ever. It notes what was asked."""

    answers: list[Canned]
    url: str = ""
    asked: list[str] = field(default_factory=list)  # "POST /v1/...", or a proxy's absolute URL
    ids: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def answering(*answers: Canned, host: str = "127.0.0.1") -> Iterator[Canning]:
    """The server, for as long as the block runs."""
    server = Canning(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            server.asked.append(f"{self.command} {self.path}")
            server.ids.append(self.headers.get("X-Request-Id"))
            server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            canned = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            if canned is None:
                self.close_connection = True
                return
            status, headers, body = canned
            content = body.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_CONNECT = answer

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as listening:
        shown = f"[{host}]" if ":" in host else host
        server.url = f"http://{shown}:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        listening.shutdown()


@contextmanager
def socks5(to_port: int) -> Iterator[tuple[int, list[str]]]:
    """A SOCKS5 proxy: its port, and the hosts it was asked for. It connects to `to_port` only."""
    asked: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            n_methods = self.rfile.read(2)[1]
            self.rfile.read(n_methods)
            self.wfile.write(b"\x05\x00")  # no password
            kind = self.rfile.read(4)[3]
            length = self.rfile.read(1)[0] if kind == 3 else 4
            asked.append(self.rfile.read(length).decode("latin-1"))
            self.rfile.read(2)
            self.wfile.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            with socket.create_connection(("127.0.0.1", to_port)) as behind:
                self.connection.settimeout(0.2)
                try:
                    while sent := self.connection.recv(65_536):
                        behind.sendall(sent)
                except TimeoutError:
                    pass
                self.connection.settimeout(5)
                self.connection.sendall(behind.recv(65_536))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield listening.server_address[1], asked
        listening.shutdown()
