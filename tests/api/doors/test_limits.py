"""Limits of a key over HTTP: many at once, one after the other, and what is charged."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.doors.house import PATH, House, house, some_key, upload

ID, KEY = some_key("tom")
OTHER_ID, OTHER_KEY = some_key("ann")
HEARD_S = 8.51  # what the fake router hears in ten bytes


async def crowd(one: House, n: int, *, n_bytes: int = 10) -> list[httpx.Response]:
    async with one.client(KEY) as client:
        return list(await asyncio.gather(*(client.post(PATH, **upload(n_bytes)) for _ in range(n))))


def test_one_after_the_other_never_meets_the_limit_of_one_at_a_time(tmp_path: Path) -> None:
    async def run() -> Counter[int]:
        async with house(tmp_path, f"{KEY} max_concurrent=1") as one:
            return Counter([(await crowd(one, 1))[0].status_code for _ in range(20)])

    assert asyncio.run(run()) == {200: 20}


def test_a_stream_holds_its_place_to_its_end(tmp_path: Path) -> None:
    async def run() -> list[int]:
        async with house(tmp_path, f"{KEY} max_concurrent=1") as one, one.client(KEY) as client:
            form: dict[str, Any] = {"data": {"stream": "true"}, **upload()}
            first = await client.post(PATH, **form)
            second = await client.post(PATH, **form)
            return [first.status_code, second.status_code]

    assert asyncio.run(run()) == [200, 200]


def test_audio_over_the_minute_is_refused_with_the_time_to_wait(tmp_path: Path) -> None:
    async def run() -> httpx.Response:
        async with house(tmp_path, f"{KEY} audio_s_per_minute=5") as one:
            await crowd(one, 1)
            return (await crowd(one, 1))[0]

    refused = asyncio.run(run())

    error = refused.json()["error"]
    assert refused.status_code == 429
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"].startswith("This key is limited to 5 s of audio a minute.")
    assert int(refused.headers["retry-after"]) == 43  # (8.51 - 5) / 5 of a minute, rounded up


def test_a_crowd_does_not_pass_the_minute_together(tmp_path: Path) -> None:
    async def run() -> Counter[int]:
        async with house(tmp_path, f"{KEY} audio_s_per_minute=60") as one:
            answers = await crowd(one, 50, n_bytes=320_000)
            return Counter(answer.status_code for answer in answers)

    statuses = asyncio.run(run())

    assert 1 <= statuses[200] <= 7  # the fake hears 328 s in each; the estimate is 10 s
    assert statuses[429] == 50 - statuses[200]


def test_usage_is_shown_to_its_key_and_all_of_it_to_an_operator(tmp_path: Path) -> None:
    lines = (f"{KEY} name=tom scopes=transcribe audio_s_per_day=999", f"{OTHER_KEY} name=ops")

    async def run() -> tuple[Any, Any, list[int]]:
        async with (
            house(tmp_path, *lines) as one,
            one.client(KEY) as tom,
            one.client(OTHER_KEY) as ops,
        ):
            await crowd(one, 2)
            await ops.post(PATH, **upload())
            await asyncio.sleep(0.5)  # a key without limits is charged a moment later
            queries = (f"key={OTHER_ID}", "since=yesterday")
            refused = [(await tom.get(f"/v1/usage?{q}")).status_code for q in queries]
            shown = [(await client.get("/v1/usage")).json() for client in (tom, ops)]
            return shown[0], shown[1], refused

    own, every, refused = asyncio.run(run())

    (row,) = own["data"]
    assert (row["key"], row["name"], row["requests"]) == (ID, "tom", 2)
    assert row["audio_s"] == pytest.approx(2 * HEARD_S)
    assert row["model"]
    assert {r["key"]: r["requests"] for r in every["data"]} == {ID: 2, OTHER_ID: 1}
    assert refused == [403, 400]
