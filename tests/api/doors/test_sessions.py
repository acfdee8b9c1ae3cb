"""A browser's session: begun with a key, used by the service's own pages, ended with the key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.api.doors import keyring, sessions
from deployments.keys.records import Key
from tests.api.doors.house import HERE, PATH, House, house, some_key, upload

ID, KEY = some_key("tom")
OTHER_KEY = some_key("ann")[1]
PAGE = {"Origin": HERE}


def run(folder: Path, work: Callable[[House, httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        line = f"{KEY} name=tom scopes=transcribe"
        async with house(folder, line) as one, one.client() as browser:
            return await work(one, browser)

    return asyncio.run(inside())


async def sign_in(browser: httpx.AsyncClient, key: str = KEY, **headers: str) -> httpx.Response:
    return await browser.post("/v1/session", json={"key": key}, headers=PAGE | headers)


def test_a_browser_signs_in_works_and_signs_out(tmp_path: Path) -> None:
    async def work(one: House, browser: httpx.AsyncClient) -> list[Any]:
        before = (await browser.get("/v1/session")).json()
        signed_in = await sign_in(browser)
        during = (await browser.get("/v1/session")).json()
        answer = await browser.post(PATH, headers=PAGE, **upload())
        signed_out = await browser.delete("/v1/session", headers=PAGE)
        after = (await browser.get("/v1/session")).json()
        return [before, signed_in, during, answer.status_code, signed_out.status_code, after]

    before, signed_in, during, status, signed_out, after = run(tmp_path, work)

    tom = {"signed_in": True, "keys_required": True, "scopes": ["transcribe"], "name": "tom"}
    assert before == after == {"signed_in": False, "keys_required": True, "scopes": [], "name": ""}
    assert signed_in.json() == during == tom
    assert (status, signed_out) == (200, 204)


@pytest.mark.parametrize(("proto", "is_secure"), [("https", True), ("http", False)])
def test_the_cookie_is_for_this_service_alone(tmp_path: Path, proto: str, is_secure: bool) -> None:
    answer = run(tmp_path, lambda _, browser: sign_in(browser, **{"X-Forwarded-Proto": proto}))

    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("pc_session=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/;" in cookie
    assert ("secure" in cookie) == is_secure
    assert KEY[-43:].lower() not in cookie


@pytest.mark.parametrize("key", [OTHER_KEY, "", "?", "null"])
def test_a_wrong_key_signs_nobody_in(tmp_path: Path, key: str) -> None:
    answer = run(tmp_path, lambda _, browser: sign_in(browser, key))

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"key"', b" " * 5000])
def test_a_body_that_is_no_key_is_a_bad_request(tmp_path: Path, body: bytes) -> None:
    async def work(one: House, browser: httpx.AsyncClient) -> int:
        return (await browser.post("/v1/session", content=body)).status_code

    assert run(tmp_path, work) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": HERE}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": HERE}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://service:81"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_only_the_service_s_own_pages_may_use_a_session(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async def work(one: House, browser: httpx.AsyncClient) -> list[int]:
        await sign_in(browser)
        answers = [
            await browser.post(PATH, headers=headers, **upload()),
            await browser.get("/v1/models", headers=headers),
        ]
        return [answer.status_code for answer in answers]

    assert run(tmp_path, work) == [status, 200]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_another_page_cannot_change_who_is_signed_in(tmp_path: Path, method: str) -> None:
    async def work(one: House, browser: httpx.AsyncClient) -> int:
        evil = {"Origin": "http://evil.example"}
        answer = await browser.request(method, "/v1/session", json={"key": KEY}, headers=evil)
        return answer.status_code

    assert run(tmp_path, work) == 403


def test_a_session_dies_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "TELL_S", 0.1)

    async def work(one: House, browser: httpx.AsyncClient) -> int:
        await sign_in(browser)
        one.write(OTHER_KEY)
        await asyncio.sleep(1.5)
        return (await browser.get("/v1/models")).status_code

    assert run(tmp_path, work) == 401


TOM = Key(id=ID, name="tom", hash="h1")
VALUE = sessions.make(TOM, 100.0, "secret")


def opens(value: str, key: Key = TOM, *, secret: str = "secret", now_s: float = 99.0) -> bool:
    return sessions.known(value, {key.id: key}, secret, now_s) is not None


def test_a_session_ends_at_its_time_and_with_another_secret() -> None:
    assert opens(VALUE)
    assert not opens(VALUE, now_s=100.0)
    assert not opens(VALUE, secret="other")
    assert not opens(sessions.make(TOM, 100.0, ""), secret="")


def test_a_rotated_key_keeps_its_sessions_while_the_old_secret_is_valid() -> None:
    rotated = Key(id=ID, name="tom", hash="h2", old_hash="h1", old_until_s=50.0)

    assert opens(VALUE, rotated, now_s=49.0)
    assert not opens(VALUE, rotated, now_s=50.0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "...",
        VALUE + "0",
        VALUE[:-1],
        VALUE.replace(".100.", ".999."),
        VALUE.replace(".100.", ".-1."),
        VALUE.replace(".100.", ".²."),
        VALUE.replace(ID, "0" * 12),
        f"{ID}.100.é",
    ],
    ids=range(9),
)
def test_a_changed_session_is_none(value: str) -> None:
    assert not opens(value)
