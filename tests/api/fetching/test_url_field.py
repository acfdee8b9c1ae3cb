"""The field `url` of a request, from the form to the transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from deployments.api.ingress import Front, create_app
from deployments.api.openapi import document
from deployments.config import Limits
from deployments.core.types import StoredUpload, Upload
from deployments.request.fetching import fetcher_for
from deployments.request.stored import mapped
from deployments.service_settings import Fetch
from tests.api.senders import left
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter
from tests.core.media.encode import a_file
from tests.outgoing.internet import Internet, answer

pytestmark = pytest.mark.usefixtures("spool")

WAV = a_file("wav", "pcm_s16le", 16000)
LONG_WAV = a_file("wav", "pcm_s16le", 384_000)  # over a megabyte, so it is in a file
PAGES = {"/short.wav": answer(WAV), "/long.wav": answer(LONG_WAV), "/empty.wav": answer(b"")}


class Keeping(FakeRouter):
    """Keeps the recordings that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.stored: list[bool] = []

    def transcribe(self, upload: Upload | StoredUpload, *arguments: Any) -> Any:
        self.got.append(mapped(upload).tobytes())
        self.stored.append(isinstance(upload, StoredUpload))
        return super().transcribe(mapped(upload), *arguments)


def post(
    router: FakeRouter,
    fields: Mapping[str, str],
    files: Mapping[str, bytes] | None = None,
    fetch: Mapping[str, Any] | None = None,
    query: str = "",
) -> httpx.Response:
    """A request to the front. `{port}` stands for the port of a server on loopback."""

    async def send() -> httpx.Response:
        async with Internet(PAGES).running() as port:
            filled = {
                name: [value.format(port=port) for value in values]
                for name, values in (fetch or {}).items()
                if isinstance(values, list)
            }
            limits = Limits(max_upload_mb=5)
            fetcher = fetcher_for(Fetch(**{**(fetch or {}), **filled}), limits)
            front = Front(FakeHandle(router), ENGINE, limits, fetcher=fetcher)
            transport = httpx.ASGITransport(create_app(front), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                texts = {k: (None, v.format(port=port)) for k, v in fields.items()}
                parts: Any = {**texts, **(files or {})}
                return await client.post(f"/v1/audio/transcriptions{query}", files=parts)

    return asyncio.run(send())


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


ON = {"enabled": True, "allow_hosts": ["127.0.0.1:{port}", "localhost:{port}"]}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(("name", "sound"), [("short", WAV), ("long", LONG_WAV)])
def test_a_url_gives_the_bytes_that_an_upload_gives(
    spool: Any, host: str, name: str, sound: bytes
) -> None:
    by_url, uploaded = Keeping(), Keeping()

    answered = post(by_url, {"url": f"http://{host}:{{port}}/{name}.wav"}, fetch=ON)
    expected = post(uploaded, {}, {"file": sound}, fetch=ON)

    assert (answered.status_code, answered.json()) == (200, expected.json())
    assert by_url.got == uploaded.got == [sound]
    assert by_url.stored == uploaded.stored == [name == "long"]
    assert left(spool) == []


@pytest.mark.parametrize("query", ["", "?strict=true"])
def test_urls_are_not_fetched_by_default(query: str) -> None:
    answered = post(Keeping(), {"url": "http://127.0.0.1:{port}/short.wav"}, query=query)

    assert error_of(answered) == (400, "bad_request", "url")
    assert "fetch.enabled" in answered.json()["error"]["message"]


@pytest.mark.parametrize("fetch", [ON, {}])
def test_a_file_and_a_url_together_are_refused(fetch: dict[str, Any]) -> None:
    answered = post(Keeping(), {"url": "http://a.example/x"}, {"file": WAV}, fetch=fetch)

    assert error_of(answered) == (400, "bad_request", "url")
    assert "not both" in answered.json()["error"]["message"]


@pytest.mark.parametrize("value", ["", " ", "null", "undefined"])
def test_an_empty_url_counts_as_not_sent(value: str) -> None:
    assert post(Keeping(), {"url": value}, {"file": WAV}).status_code == 200
    assert error_of(post(Keeping(), {"url": value}, fetch=ON)) == (400, "bad_request", "file")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1/short.wav", (400, "url_refused", "url")),
        ("http://[::1]:{port}/short.wav", (400, "url_refused", "url")),
        ("http://0x7f.1:{port}/short.wav", (400, "url_refused", "url")),
        ("http://169.254.169.254/latest/", (400, "url_refused", "url")),
        ("file:///etc/passwd", (400, "url_refused", "url")),
        ("/etc/passwd", (400, "url_refused", "url")),
        ("http://127.0.0.1:{port}/none.wav", (424, "fetch_failed", None)),
        ("http://127.0.0.1:{port}/empty.wav", (400, "invalid_audio", None)),
    ],
)
def test_what_cannot_be_fetched_is_told_in_openais_shape(
    url: str, expected: tuple[int, str, str | None]
) -> None:
    router = Keeping()

    assert error_of(post(router, {"url": url}, fetch=ON)) == expected
    assert router.got == []


def test_nothing_is_fetched_for_a_form_with_another_fault() -> None:
    fields = {"url": "http://127.0.0.1:{port}/none.wav", "response_format": "docx"}

    assert error_of(post(Keeping(), fields, fetch=ON)) == (400, "bad_request", "response_format")


def test_a_stream_may_be_of_a_url_too() -> None:
    fields = {"url": "http://127.0.0.1:{port}/short.wav", "stream": "true"}

    answered = post(FakeRouter(), fields, fetch=ON)

    assert (answered.status_code, answered.text.endswith("data: [DONE]\n\n")) == (200, True)


@pytest.mark.parametrize("fetches", [True, False])
def test_the_description_says_whether_urls_are_fetched(fetches: bool) -> None:
    post = document(Limits(), fetches=fetches)["paths"]["/v1/audio/transcriptions"]["post"]
    schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]

    assert ("required" in schema, "oneOf" in schema) == (not fetches, fetches)
    assert ("fetch.enabled" in schema["properties"]["url"]["description"]) == (not fetches)


@pytest.mark.parametrize(
    "settings",
    [{"allow_hosts": ["http://a"]}, {"allow_networks": ["10.0.0.1/8"]}, {"timeout_s": 0}],
)
def test_a_setting_that_cannot_be_read_fails_the_deployment(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Fetch"):
        Fetch(**settings)
