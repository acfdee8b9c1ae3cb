"""A connection goes to an address that was checked, by the one look-up that was made for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import httpcore
import pytest

from deployments.core.errors import UrlRefused
from deployments.outgoing.allowed import Allowed, allowed
from deployments.outgoing.guard import Guard, connections, look_up
from tests.outgoing.certificates import certified
from tests.outgoing.internet import OTHER, PUBLIC, Internet, answer

PAGES = {"/": answer(b"here")}


def get(
    internet: Internet,
    url: str,
    *,
    policy: Allowed = allowed(),  # noqa: B008 - it never changes
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    times: int = 1,
) -> list[bytes]:
    """The bodies of so many requests, one after the other over the same guard."""

    async def ask() -> list[bytes]:
        guard = Guard(policy, resolve=internet.resolve, network=internet)
        async with internet.running(server), connections(guard, context=client) as pool:
            return [(await pool.request("GET", url)).content for _ in range(times)]

    return asyncio.run(ask())


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    internet = Internet(PAGES)

    assert get(internet, "http://public.test/") == [b"here"]
    assert internet.connected == [(PUBLIC, 80)]
    assert internet.looked_up == ["public.test"]
    assert "Host: public.test\r\n" in internet.asked[0]


def test_a_name_whose_answer_changes_is_looked_up_once_for_each_connection() -> None:
    internet = Internet(PAGES, {"rebind.test": [[PUBLIC], ["127.0.0.1"]]})

    with pytest.raises(UrlRefused):
        get(internet, "http://rebind.test/", times=2)

    assert internet.looked_up == ["rebind.test"] * 2
    assert internet.connected == [(PUBLIC, 80)]  # and never 127.0.0.1


@pytest.mark.parametrize(
    "addresses",
    [[PUBLIC, "127.0.0.1"], ["10.0.0.5", PUBLIC], [PUBLIC, OTHER, "::ffff:10.0.0.5"], []],
)
def test_no_connection_is_tried_where_one_address_is_not_public(addresses: Sequence[str]) -> None:
    internet = Internet(PAGES, {"both.test": [addresses]})

    with pytest.raises(UrlRefused):
        get(internet, "http://both.test/")

    assert internet.connected == []


def test_nobody_can_tell_a_name_of_the_intranet_from_none() -> None:
    internet = Internet(PAGES, {"db.corp": [["10.0.0.5"]]})

    with pytest.raises(UrlRefused) as is_there:
        get(internet, "http://db.corp/")
    with pytest.raises(UrlRefused) as is_not:
        get(internet, "http://none.corp/")

    assert str(is_there.value) == str(is_not.value)


def test_a_forbidden_port_is_refused_before_the_name_is_looked_up() -> None:
    internet = Internet(PAGES)

    with pytest.raises(UrlRefused, match="ports"):
        get(internet, "http://public.test:22/")

    assert (internet.looked_up, internet.connected) == ([], [])


def test_another_address_of_the_name_is_tried_where_one_does_not_answer() -> None:
    internet = Internet(PAGES, {"two.test": [[PUBLIC, PUBLIC, OTHER]]})
    internet.down = {PUBLIC}

    assert get(internet, "http://two.test/") == [b"here"]
    assert internet.connected == [(PUBLIC, 80), (OTHER, 80)]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"])
def test_an_address_in_the_url_is_checked_without_a_look_up(host: str) -> None:
    internet = Internet(PAGES)

    with pytest.raises(UrlRefused):
        get(internet, f"http://{host}/")

    assert (internet.looked_up, internet.connected) == ([], [])


def test_no_unix_socket_is_opened() -> None:
    with pytest.raises(UrlRefused):
        asyncio.run(Guard(allowed()).connect_unix_socket("/run/docker.sock"))


def test_the_certificate_must_be_that_of_the_name(tmp_path: Path) -> None:
    server, client = certified("public.test", tmp_path)
    internet = Internet(PAGES, {"other.test": [[OTHER]]})

    assert get(internet, "https://public.test/", server=server, client=client) == [b"here"]
    with pytest.raises(httpcore.ConnectError, match="certificate"):
        get(internet, "https://other.test/", server=server, client=client)

    assert internet.server_names == ["public.test", "other.test"]
    assert internet.connected == [(PUBLIC, 443), (OTHER, 443)]


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server, _ = certified("public.test", tmp_path)

    with pytest.raises(httpcore.ConnectError, match="certificate"):
        get(Internet(PAGES), "https://public.test/", server=server)


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")

    assert get(Internet(PAGES), "http://public.test/") == [b"here"]


def test_the_systems_resolver_gives_plain_addresses() -> None:
    assert set(asyncio.run(look_up("localhost", 80))) <= {"127.0.0.1", "::1"}
