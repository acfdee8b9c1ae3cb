"""Browsers: a page of another origin may call the service where the configuration says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter, failing
from tests.core.test_wire import ERRORS

HERE = "app://obsidian.md"
ALLOWED = (HERE, "https://notes.example.com", "capacitor://localhost", "null")
PATH = "/v1/audio/transcriptions"
ASKED = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    "Access-Control-Request-Private-Network": "true",
}


class Broken(FakeRouter):
    """A router with an error of its own, which the front does not foresee."""

    def models(self) -> list[dict[str, Any]]:
        raise RuntimeError("a mistake in our code")


def ask(
    method: str,
    path: str = PATH,
    *,
    origin: str = HERE,
    allowed: tuple[str, ...] = ALLOWED,
    router: FakeRouter | None = None,
    headers: Mapping[str, str] | None = None,
    **request: Any,
) -> httpx.Response:
    app = create_app(Front(FakeHandle(router or FakeRouter()), ENGINE, Limits()), allowed)
    with TestClient(app, raise_server_exceptions=False) as client:
        sent = {"Origin": origin, **(headers or {})}
        return client.request(method, path, headers=sent, **request)


def upload(data: bytes = b"sound") -> dict[str, Any]:
    return {"files": {"file": ("blob", data)}}


def test_by_default_no_other_origin_is_let_in() -> None:
    preflight = ask("OPTIONS", allowed=(), headers=ASKED)
    answer = ask("POST", allowed=(), **upload())

    assert (preflight.status_code, answer.status_code) == (405, 200)
    assert not [name for name in (*preflight.headers, *answer.headers) if "access-control" in name]


@pytest.mark.parametrize("origin", ALLOWED)
def test_a_named_origin_may_ask_and_send(origin: str) -> None:
    preflight = ask("OPTIONS", origin=origin, headers=ASKED)
    answer = ask("POST", origin=origin, data={"seed": "1"}, **upload())

    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-allow-private-network"] == "true"
    for response in (preflight, answer):
        assert response.headers["access-control-allow-origin"] == origin
    assert "warnings" in answer.headers["access-control-expose-headers"]
    assert answer.headers["warnings"].startswith("unknown fields seed")


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://notes.example.com", ""])
def test_another_origin_is_not_let_in(origin: str) -> None:
    answer = ask("POST", origin=origin, **upload())

    assert "access-control-allow-origin" not in answer.headers


def test_any_origin_may_be_let_in() -> None:
    preflight = ask("OPTIONS", origin="https://any.example", allowed=("*",), headers=ASKED)

    assert preflight.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_a_page_may_read_every_error(number: int) -> None:
    answer = ask("POST", **upload(failing(number)))

    assert answer.headers["access-control-allow-origin"] == HERE
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/models", 500), ("GET", "/v2", 404), ("PUT", PATH, 405)],
)
def test_a_page_may_also_read_what_nobody_foresaw(method: str, path: str, status: int) -> None:
    answer = ask(method, path, router=Broken())

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == HERE
    assert answer.json()["error"]["message"]


def test_a_stream_may_be_read_too() -> None:
    answer = ask("POST", data={"stream": "1"}, **upload())

    assert answer.headers["access-control-allow-origin"] == HERE
    assert "[DONE]" in answer.text
