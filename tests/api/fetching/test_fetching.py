"""The fetch of a recording: redirects, other servers' answers, and the bounds on size and time."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.core.errors import AsrError, FetchFailed, TimedOut, UploadTooLarge, UrlRefused
from deployments.outgoing.allowed import allowed
from deployments.outgoing.guard import Guard
from deployments.request.fetching import MAX_REDIRECTS, Fetcher
from tests.api.senders import MIB, left
from tests.outgoing.certificates import certified
from tests.outgoing.internet import METADATA, OTHER, PUBLIC, Internet, answer, to

pytestmark = pytest.mark.usefixtures("spool")

URL = "http://public.test/x.wav"
SOUND = bytes(range(256)) * 64
READ_AHEAD = 2 * 65536  # what httpcore may have read when the bound is passed


def fetched(
    internet: Internet,
    url: str = URL,
    *,
    max_mb: float = 1.0,
    timeout_s: float = 5.0,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
) -> bytes:
    async def fetch() -> bytes:
        guard = Guard(allowed(), resolve=internet.resolve, network=internet)
        fetcher = Fetcher(guard, max_mb=max_mb, timeout_s=timeout_s, context=client)
        async with internet.running(server):
            file = await fetcher.fetch(url)
            try:
                return await file.read()
            finally:
                await file.close()

    return asyncio.run(fetch())


def refused(internet: Internet, url: str = URL, **how: Any) -> AsrError:
    with pytest.raises(AsrError) as caught:
        fetched(internet, url, **how)
    return caught.value


def test_the_bytes_are_those_of_the_server() -> None:
    internet = Internet({"/x.wav": answer(SOUND)})

    assert fetched(internet) == SOUND
    assert "Accept-Encoding: identity\r\n" in internet.asked[0]


@pytest.mark.parametrize("n_bytes", [MIB, 3 * MIB + 1])
def test_a_large_recording_arrives_whole_and_leaves_nothing(spool: Path, n_bytes: int) -> None:
    sound = (SOUND * (n_bytes // len(SOUND) + 1))[:n_bytes]

    assert fetched(Internet({"/x.wav": answer(sound)}), max_mb=10) == sound
    assert left(spool) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    pages = {
        "/x.wav": to("/y", status),
        "/y": to("http://other.test/z?q", status),
        "/z?q": answer(SOUND),
    }
    internet = Internet(pages, {"other.test": [[OTHER]]})

    assert fetched(internet) == SOUND
    assert internet.connected == [(PUBLIC, 80), (PUBLIC, 80), (OTHER, 80)]
    assert internet.looked_up == ["public.test", "public.test", "other.test"]


def test_a_redirect_that_leads_in_a_circle_ends() -> None:
    internet = Internet({"/x.wav": to("/x.wav")})

    assert isinstance(refused(internet), UrlRefused)
    assert len(internet.asked) == 1 + MAX_REDIRECTS


@pytest.mark.parametrize(
    "location",
    [
        f"http://{METADATA}/latest/meta-data/",
        "http://100.100.100.200/latest/meta-data/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://127.0.0.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://localhost.test/",
        "http://public.test:6379/",
        "http://user@public.test/",
        "http://nowhere.test/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//127.0.0.1/",
    ],
)
def test_a_redirect_goes_nowhere_that_a_url_may_not(location: str) -> None:
    internet = Internet({"/x.wav": to(location)}, {"localhost.test": [["127.0.0.1"]]})

    error = refused(internet)

    assert isinstance(error, UrlRefused)
    assert internet.connected == [(PUBLIC, 80)]
    assert location not in str(error)


def test_a_name_that_is_rebound_between_two_redirects_is_refused() -> None:
    internet = Internet({"/x": to("/y"), "/y": answer(b"secret")}, {"a.test": [[PUBLIC], ["::1"]]})

    assert isinstance(refused(internet, "http://a.test/x"), UrlRefused)
    assert internet.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "page", [answer(b"", 302), answer(b"", 302, location="\xff", Location="/")]
)
def test_a_redirect_without_one_place_is_refused(page: bytes) -> None:
    assert isinstance(refused(Internet({"/x.wav": page})), UrlRefused)


def test_https_does_not_lead_to_http(tmp_path: Path) -> None:
    server, client = certified("public.test", tmp_path)
    internet = Internet({"/x.wav": to(URL)})

    error = refused(internet, "https://public.test/x.wav", server=server, client=client)

    assert (type(error), "http" in str(error)) == (UrlRefused, True)
    assert internet.connected == [(PUBLIC, 443)]


def test_https_works(tmp_path: Path) -> None:
    server, client = certified("public.test", tmp_path)
    internet = Internet({"/x.wav": answer(SOUND)})

    sound = fetched(internet, "https://public.test/x.wav", server=server, client=client)

    assert sound == SOUND
    assert internet.server_names == ["public.test"]


def endless(head: bytes) -> Callable[[asyncio.StreamWriter], Any]:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(1000):
            writer.write(bytes(65536))
            await writer.drain()

    return send


def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    page = endless(b"HTTP/1.1 200 OK\r\nContent-Length: 65536000\r\n\r\n")
    internet = Internet({"/x.wav": page})

    assert isinstance(refused(internet), UploadTooLarge)
    assert internet.n_read <= READ_AHEAD


@pytest.mark.parametrize("max_mb", [0.5, 3])
def test_a_body_without_a_length_is_read_to_the_limit_only(spool: Path, max_mb: float) -> None:
    internet = Internet({"/x.wav": endless(b"HTTP/1.1 200 OK\r\n\r\n")})

    assert isinstance(refused(internet, max_mb=max_mb), UploadTooLarge)
    assert internet.n_read <= max_mb * 1_000_000 + READ_AHEAD
    assert left(spool) == []


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    sound = bytes(1_000_000)

    assert fetched(Internet({"/x.wav": answer(sound)})) == sound
    assert isinstance(refused(Internet({"/x.wav": answer(sound + b"x")})), UploadTooLarge)


async def trickle(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(100):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def never(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2)


async def head_for_ever(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("page", [trickle, never, head_for_ever])
def test_a_slow_server_is_left_at_the_time_limit(
    spool: Path, page: Callable[[asyncio.StreamWriter], Any]
) -> None:
    error = refused(Internet({"/x.wav": page}), timeout_s=0.2)

    assert (type(error), error.args) == (TimedOut, ("fetch of the URL", 0.2))
    assert left(spool) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Encoding": "gzip"},
        {"content_encoding": "br"},
        {"CONTENT_ENCODING": "GZIP, identity"},
        {"Content_Encoding": "x"},
        {"Content_Encoding": "identity", "Content-Encoding": "gzip"},
    ],
)
def test_a_compressed_answer_is_not_unpacked(headers: dict[str, str]) -> None:
    bomb = gzip.compress(bytes(50 * MIB))
    internet = Internet({"/x.wav": answer(bomb, **headers)})

    assert isinstance(refused(internet), FetchFailed)
    assert internet.n_read <= READ_AHEAD


def test_identity_is_not_a_compression() -> None:
    assert fetched(Internet({"/x.wav": answer(SOUND, Content_Encoding="Identity")})) == SOUND


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 410, 429, 500, 503])
def test_an_error_of_the_other_server_is_told(status: int) -> None:
    error = refused(Internet({"/x.wav": answer(b"<html>", status)}))

    assert (type(error), str(error)) == (FetchFailed, f"The server of the URL answered {status}.")


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
    ],
)
def test_a_server_that_does_not_speak_http_is_an_error_of_its_own(spool: Path, page: bytes) -> None:
    assert isinstance(refused(Internet({"/x.wav": page})), FetchFailed)
    assert left(spool) == []


def test_a_server_that_is_down_is_told() -> None:
    internet = Internet({})
    internet.down = {PUBLIC}

    error = refused(internet)

    assert (type(error), str(error)) == (FetchFailed, "The server of the URL cannot be reached.")


def test_a_fetch_that_is_cancelled_leaves_no_file(spool: Path) -> None:
    async def cancel() -> None:
        internet = Internet({"/x.wav": endless(b"HTTP/1.1 200 OK\r\n\r\n")})
        guard = Guard(allowed(), resolve=internet.resolve, network=internet)
        async with internet.running():
            fetch = Fetcher(guard, max_mb=2048, timeout_s=5).fetch(URL)
            await asyncio.wait_for(fetch, 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(cancel())

    assert left(spool) == []
