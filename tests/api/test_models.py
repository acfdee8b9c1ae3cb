"""The model by its id and by its aliases, through the real router and front."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.api.ingress import Front, create_app
from deployments.config import Limits, Models
from deployments.request.router import Router
from tests.request.harness import PLAN

MODEL = "paraformer/zh v1"  # with all that a path may hold
CALLS = {"vad": None, "pools": {}, "punctuation": None, "dispatcher": None, "stage_timeout_s": {}}


class LocalHandle:
    """The router in this process, called as over a handle."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __getattr__(self, name: str) -> SimpleNamespace:
        method: Callable[..., Any] = getattr(self._router, name)
        return SimpleNamespace(remote=lambda *args: asyncio.ensure_future(method(*args)))


def get(path: str, aliases: tuple[str, ...] = Models().aliases) -> httpx.Response:
    async def answer() -> httpx.Response:
        plan = replace(PLAN, engine=replace(PLAN.engine, name=MODEL), aliases=aliases)
        front = Front(LocalHandle(Router(plan, CALLS)), plan.engine, Limits())
        transport = httpx.ASGITransport(create_app(front))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(answer())


@pytest.mark.parametrize(
    "name",
    [
        "paraformer%2Fzh%20v1",
        "paraformer/zh v1",
        "whisper-1",
        "gpt-transcribe",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
    ],
)
def test_the_served_model_is_found_by_its_id_and_by_openais_names(name: str) -> None:
    answer = get(f"/v1/models/{name}")

    assert answer.status_code == 200
    assert answer.json() == get("/v1/models").json()["data"][0]
    assert (answer.json()["id"], answer.json()["object"]) == (MODEL, "model")


@pytest.mark.parametrize(
    "name", ["gpt-9", "gpt-4o-transcribe-diarize", "whisper-12", "paraformer", "*"]
)
def test_another_model_is_not_found(name: str) -> None:
    answer = get(f"/v1/models/{name}")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("aliases", "status"), [((), 404), (("*",), 200), (("Systran/*",), 200), (("systran/*",), 404)]
)
def test_the_configuration_lists_the_aliases(aliases: tuple[str, ...], status: int) -> None:
    assert get("/v1/models/Systran/faster-whisper-large-v3", aliases).status_code == status
