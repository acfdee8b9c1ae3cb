"""Proxies of the environment: which requests take them, and what the errors say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cluster.doctor.machine import ask_service as doctor_asks
from cluster.watch.command import ask_service
from deployments.core.errors import ModelUnavailable
from deployments.proxies import AsyncTransport, Transport, is_this_machine, proxy_for, through
from deployments.weights.download import http_client, status_of
from deployments.weights.settings import Endpoints, Limits
from deployments.weights.store import ensure
from tests.clients.fakes import run
from tests.clients.servers import answering, socks5
from tests.weights.fake_hub import FakeHub, serving
from tests.weights.fetching import fetch
from tests.weights.samples import (
    CONTENTS,
    HUGGING_FACE,
    MODELSCOPE,
    REPO,
    catalog_of,
    quick_limits,
    tiny_model,
)

UNUSED = "http://127.0.0.1:9"  # nothing listens there
UNUSABLE = [UNUSED, "socks5h://127.0.0.1:9", "socks://127.0.0.1:9", "nonsense://p:1"]
READY = (200, {}, '{"ready": true, "status": "alive"}')

Set = Callable[..., None]


def chosen(url: str) -> str | None:
    proxy = proxy_for(httpx.URL(url))
    return proxy.url if proxy else None


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"http_proxy": "http://p:1"}, "http://asr", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://asr", "http://p:1"),
        (
            {"http_proxy": "http://small:1", "HTTP_PROXY": "http://p:1"},
            "http://asr",
            "http://small:1",
        ),
        ({"http_proxy": "", "HTTP_PROXY": "http://p:1"}, "http://asr", None),
        ({"http_proxy": "p:1"}, "http://asr", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://asr", None),
        ({"https_proxy": "http://p:1"}, "https://asr", "http://p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, "https://asr", "socks5h://p:1"),
        ({"all_proxy": "socks://p:1/"}, "http://asr", "socks5://p:1/"),
        ({"all_proxy": "socks5://p:1", "http_proxy": "http://q:2"}, "http://asr", "http://q:2"),
        ({}, "http://asr", None),
    ],
)
def test_the_variables_are_read_as_curl_reads_them(
    environment: Set, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    environment(**variables)

    assert chosen(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("asr", "http://asr:8000", True),
        ("asr:8000", "http://asr:8000", True),
        ("asr:80", "http://asr:8000", False),
        ("ASR.example", "http://asr.example", True),
        (".example", "http://asr.example", True),
        ("example", "http://asr.example", True),
        ("example", "http://asrexample", False),
        ("*", "http://asr", True),
        ("other, *", "http://asr", True),
        ("10.0.0.0/8", "http://10.2.3.4:8000", True),
        ("10.0.0.0/8", "http://11.2.3.4:8000", False),
        ("10.2.3.4", "http://10.2.3.4:8000", True),
        ("fd00::/8", "http://[fd00::1]:8000", True),
        ("fd00::1", "http://[fd00::1]:8000", True),
        (", ,", "http://asr", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_takes_names_domains_addresses_and_networks(
    environment: Set, name: str, no_proxy: str, url: str, is_direct: bool
) -> None:
    environment(all_proxy="http://p:1", **{name: no_proxy})

    assert (chosen(url) is None) is is_direct


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "asr.localhost", "127.0.0.2"),
        *("0.0.0.0", "::1", "::", "::ffff:127.0.0.1"),
    ],
)
def test_this_machine_is_known_by_all_its_names(environment: Set, host: str) -> None:
    environment(http_proxy="http://p:1", all_proxy="nonsense://p:1")
    url = f"http://[{host}]:8000" if ":" in host else f"http://{host}:8000"

    assert is_this_machine(host)
    assert chosen(url) is None


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "mylocalhost", "fd00::1"])
def test_other_machines_are_not_taken_for_this_one(host: str) -> None:
    assert not is_this_machine(host)


@pytest.mark.parametrize(
    "proxy", [UNUSED, "socks5h://127.0.0.1:9", "socks4://127.0.0.1:9", "http://[bad", "ftp://p:1"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_machine_is_asked_without_the_proxy(environment: Set, proxy: str, host: str) -> None:
    environment(http_proxy=proxy, all_proxy=proxy)

    with answering(READY, host=host) as server, httpx.Client(transport=Transport()) as client:
        service, failure = ask_service(client, server.url)

    assert (service, failure) == ({"ready": True, "status": "alive"}, "")


def test_the_doctor_asks_this_machine_without_the_proxy(environment: Set) -> None:
    environment(http_proxy=UNUSED)

    with answering(READY) as server:
        assert doctor_asks(int(server.url.rpartition(":")[2])) == "alive"


def test_a_request_takes_the_proxy_that_is_named(environment: Set) -> None:
    with answering(READY) as proxy, httpx.Client(transport=Transport()) as client:
        environment(http_proxy=proxy.url)
        service, _ = ask_service(client, "http://asr.example")

    assert service is not None
    assert proxy.asked == ["GET http://asr.example/readyz"]


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks"])
def test_a_request_takes_a_socks_proxy(environment: Set, scheme: str) -> None:
    with (
        answering(READY) as server,
        socks5(int(server.url.rpartition(":")[2])) as (port, asked),
        httpx.Client(transport=Transport()) as client,
    ):
        environment(all_proxy=f"{scheme}://127.0.0.1:{port}")
        service, failure = ask_service(client, "http://asr.example")

    assert (service is not None, failure) == (True, "")
    assert asked == ["asr.example"]


def failure_of(url: str) -> httpx.TransportError:
    with (
        httpx.Client(transport=Transport()) as client,
        pytest.raises(httpx.TransportError) as caught,
    ):
        client.get(url)
    return caught.value


async def async_failure_of(url: str) -> httpx.TransportError:
    async with httpx.AsyncClient(transport=AsyncTransport()) as client:
        with pytest.raises(httpx.TransportError) as caught:
            await client.get(url)
    return caught.value


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        (UNUSED, f"through the proxy {UNUSED} that all_proxy names"),
        ("socks5h://127.0.0.1:9", "through the proxy socks5h://127.0.0.1:9"),
        ("socks4://127.0.0.1:9", "through the proxy socks4://127.0.0.1:9"),
        ("http://127.0.0.1:nonsense", "through the proxy http://127.0.0.1:nonsense"),
        ("http://user:secret@127.0.0.1:9", f"through the proxy {UNUSED} that"),
    ],
)
@pytest.mark.parametrize("url", ["http://asr.example", "https://asr.example"])
def test_an_error_names_the_proxy_without_its_password(
    environment: Set, proxy: str, said: str, url: str
) -> None:
    environment(ALL_PROXY=proxy)

    failures = [failure_of(url), run(async_failure_of(url))]

    assert [said in str(failure) for failure in failures] == [True, True]
    assert "secret" not in str(failures)


def test_a_socks_proxy_without_its_library_is_an_error_and_no_traceback(
    environment: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(all_proxy="socks5://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "socksio", None)

    failure = failure_of("http://asr.example")

    assert isinstance(failure, httpx.UnsupportedProtocol)
    assert "socksio" in str(failure)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_a_tunnel_is_named(environment: Set, status: int) -> None:
    with answering((status, {}, "")) as proxy:
        environment(https_proxy=proxy.url)
        failure = failure_of("https://asr.example")

    assert str(status) in str(failure)
    assert f"through the proxy {proxy.url} that https_proxy names" in str(failure)


def test_a_status_that_the_proxy_may_have_sent_names_the_proxy(environment: Set) -> None:
    with answering((502, {}, "Bad Gateway")) as proxy, http_client(Limits()) as client:
        environment(http_proxy=proxy.url)
        response = client.get("http://hub.example/api")
        _, failure = ask_service(client, "http://asr.example")

    assert status_of(response) == (
        f"HTTP 502 from http://hub.example/api through the proxy {proxy.url} that http_proxy names"
    )
    assert f"through the proxy {proxy.url}" in failure


def test_nothing_is_said_where_there_is_no_proxy(environment: Set) -> None:
    environment()

    assert [through(url) for url in ("http://asr", "http://[bad", "asr:8000")] == ["", "", ""]


@pytest.mark.parametrize("proxy", UNUSABLE)
def test_a_hub_on_this_machine_is_asked_without_a_proxy(
    tmp_path: Path, environment: Set, proxy: str
) -> None:
    environment(http_proxy=proxy, ALL_PROXY=proxy)

    with serving(FakeHub(repos={REPO: dict(CONTENTS)})) as hub:
        weights = fetch(tiny_model(HUGGING_FACE), tmp_path, hub)

    assert {name: (weights.path / name).read_bytes() for name in CONTENTS} == CONTENTS


@pytest.mark.parametrize("proxy", UNUSABLE[:2] + UNUSABLE[3:])
def test_a_proxy_that_cannot_be_used_is_named_as_the_reason(
    tmp_path: Path, environment: Set, proxy: str
) -> None:
    environment(ALL_PROXY=proxy)

    with pytest.raises(ModelUnavailable, match=f"through the proxy {proxy} that all_proxy names"):
        fetch_from_afar(tmp_path)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_named_as_the_reason(
    tmp_path: Path, environment: Set, status: int
) -> None:
    with answering((status, {}, "refused")) as proxy:
        environment(http_proxy=proxy.url)
        with pytest.raises(ModelUnavailable) as caught:
            fetch_from_afar(tmp_path)

    assert f"HTTP {status} from http://hub.example" in str(caught.value)
    assert f"through the proxy {proxy.url} that http_proxy names" in str(caught.value)


def fetch_from_afar(cache: Path) -> None:
    model = tiny_model(MODELSCOPE)
    far = Endpoints(modelscope="http://hub.example", hugging_face="http://hub.example")
    ensure(
        model.name,
        cache_dir=cache,
        catalog=catalog_of(model),
        endpoints=far,
        limits=quick_limits(),
    )
