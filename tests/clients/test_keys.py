"""The clients' API key: where it comes from, where it goes, and when a refusal is final."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from typer.testing import CliRunner, Result

from clients.batch import takes_jobs
from clients.cli import app
from clients.http import AsyncClient, Client
from deployments.core.errors import AsrError, Forbidden, LimitExceeded, Unauthorized
from deployments.core.wire import to_error_body

URL = "http://service"
KEY = "sk-pc-0123456789ab-secret"
MODELS = httpx.Response(200, json={"data": []})


class Service:
    """Gives the answers in turn, the last one for ever, and notes the keys that it was shown."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = list(answers)
        self.keys: list[str | None] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("authorization"))
        one = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return httpx.Response(one.status_code, headers=one.headers, content=one.content)


def failed(error: AsrError) -> httpx.Response:
    status, headers, body = to_error_body(error)
    return httpx.Response(status, headers=headers, content=json.dumps(body))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PARAFORMER_API_KEY", raising=False)
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
def service() -> Service:
    return Service(MODELS)


@pytest.fixture
def run(service: Service) -> Callable[..., Result]:
    """Runs the command line against the service."""

    def connect(url: str, **settings: Any) -> Client:
        return Client(url, transport=service.transport, **settings)

    return lambda *arguments: CliRunner().invoke(app, arguments, obj=connect)


def test_both_clients_send_the_key_and_none_without_one(service: Service) -> None:
    async def models(**settings: Any) -> None:
        async with AsyncClient(URL, transport=service.transport, **settings) as client:
            await client.models()

    with Client(URL, api_key=KEY, transport=service.transport) as client:
        client.models()
    asyncio.run(models(api_key=KEY))
    asyncio.run(models())

    assert service.keys == [f"Bearer {KEY}", f"Bearer {KEY}", None]


@pytest.mark.parametrize("key", ["密钥", "two words", "a\nb: c"])
def test_a_text_that_cannot_be_a_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(AsrError) as caught:
        Client(URL, api_key=key)

    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "n_asked"),
    [
        (Unauthorized("The API key is not valid here."), 1),
        (Forbidden("This key has no scope 'jobs'."), 1),
        (LimitExceeded("60 s of audio a day", 3600.0), 1),
        (LimitExceeded("60 s of audio a minute", 7.0), 4),
    ],
)
def test_a_refusal_is_final_unless_the_wait_is_short(error: AsrError, n_asked: int) -> None:
    service = Service(failed(error))

    with (
        Client(URL, api_key=KEY, transport=service.transport) as client,
        pytest.raises(type(error)) as caught,
    ):
        client.models()

    assert len(service.keys) == n_asked
    assert caught.value.args == error.args
    assert KEY not in str(caught.value)


def test_the_command_takes_the_key_from_the_environment_or_from_a_file(
    run: Callable[..., Result], service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")

    run("models")
    monkeypatch.setenv("PARAFORMER_API_KEY", "sk-pc-of-the-environment")
    run("models")
    run("models", "--api-key-file", str(file))

    assert service.keys == [None, "Bearer sk-pc-of-the-environment", f"Bearer {KEY}"]


def test_a_key_file_that_is_missing_is_told(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("models", "--api-key-file", str(tmp_path / "missing"))

    assert result.exit_code == 2
    assert "missing" in "".join(result.output.split("│")).replace(" ", "").replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "s3://calls/a.mp3"),
        ("watch", "job_1"),
        ("result", "job_1"),
        ("cancel", "job_1"),
        ("list",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_command_for_jobs_sends_the_key(
    run: Callable[..., Result], service: Service, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")

    run(*arguments, "--api-key-file", str(file))

    assert service.keys == [f"Bearer {KEY}"]


def test_a_key_without_jobs_has_a_folder_transcribed_by_requests() -> None:
    service = Service(failed(Forbidden("This key has no scope 'jobs'.")))

    with Client(URL, api_key=KEY, transport=service.transport) as client:
        assert not takes_jobs(client)
