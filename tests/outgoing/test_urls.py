"""A URL has one reading, or it is refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import UrlRefused
from deployments.outgoing.urls import MAX_URL_CHARS, Target, parsed, redirected

FROM = Target("https", "a.example", 443, "/dir/one.wav?x=1")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://a.example/x.wav", Target("https", "a.example", 443, "/x.wav")),
        ("HTTP://A.Example./x?y=1#z", Target("http", "a.example", 80, "/x?y=1")),
        ("https://a.example", Target("https", "a.example", 443, "/")),
        ("https://a.example?x", Target("https", "a.example", 443, "/?x")),
        ("https://a.example:80/", Target("https", "a.example", 80, "/")),
        ("https://a.example:/", Target("https", "a.example", 443, "/")),
        ("http://my_store:9000/b/c", Target("http", "my_store", 9000, "/b/c")),
        ("http://1.1.1.1/", Target("http", "1.1.1.1", 80, "/")),
        ("http://[2606:4700::0:1111]/", Target("http", "2606:4700::1111", 80, "/")),
        ("https://例子.测试/", Target("https", "xn--fsqu00a.xn--0zwm56d", 443, "/")),
        ("https://a.example/会 1", Target("https", "a.example", 443, "/%E4%BC%9A%201")),
        ("https://a.example/%E4?s=a%2Fb", Target("https", "a.example", 443, "/%E4?s=a%2Fb")),
        ("https://a.example/x@y:z", Target("https", "a.example", 443, "/x@y:z")),
        # Dots and digits of other scripts: what is checked later is what they stand for.
        ("http://127。0．0｡1/", Target("http", "127.0.0.1", 80, "/")),
        ("http://１２７.０.０.１/", Target("http", "127.0.0.1", 80, "/")),
        ("http://①②⑦.⓪.⓪.①/", Target("http", "127.0.0.1", 80, "/")),
        ("http://ＬＯＣＡＬＨＯＳＴ/", Target("http", "localhost", 80, "/")),
        ("http://[::ffff:127.0.0.1]/", Target("http", "::ffff:7f00:1", 80, "/")),
    ],
)  # fmt: skip
def test_a_url_has_parts(url: str, target: Target) -> None:
    assert parsed(url) == target


@pytest.mark.parametrize(
    "url",
    [
        *("", "a", "/x.wav", "//a.example/x", "https:/a.example", "https:a.example", "https://"),
        *("file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:audio/wav,x"),
        *("s3://bucket/key", "unix:///tmp/socket", "jar:http://a.example!/x", "http+unix://x/"),
        *("http://u@a.example/", "http://u:p@a.example/", "http://@a.example/", "http://a@/"),
        *("http://a.example\\@b.example/", "http://a.example\\.b.example/"),
        *("http://2130706433/", "http://0x7f000001/", "http://017700000001/"),
        *("http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://127.0.0.0x1/", "http://127.1/"),
        *("http://127.0.1/", "http://0/", "http://0x/", "http://1.2.3.4.5/", "http://256.1.1.1/"),
        *("http://127.0.0.01/", "http://a.1/", "http://２１３０７０６４３３/", "http://127․1/"),
        *("http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[::1]x/", "http://[]/"),
        *("http://[fe80::1%25lo]/", "http://[fe80::1%lo]/", "http://[v1.x]/"),
        *("http://a.example:x/", "http://a.example:８０/", "http://a.example:1:2/"),
        *("http://a.example:+80/", "http://a.example:-1/", "http://a.example:100000/"),
        *("http://a..example/", "http://.example/", "http://a.example../", "http://./"),
        *("http://a b/", "http://a%2eexample/", "http://%31%32%37.0.0.1/", "http://a!b/"),
        *("http://a＠b/", "http://a／b/", "http://a：80/", "http://a＃b/", "http://a？b/"),
        *("http://a.example/\r\nHost: b", "http://a.example/\t", "http://a\nb/", "http://a\0b/"),
        *("http://a.example/\u2028", "http://a.example/\ud800", "http://\u202ea.example/"),
        *(f"http://{'a' * 64}.example/", f"http://{'a.' * 130}example/", f"http://{'例' * 200}/"),
        "http://a.example/" + "x" * MAX_URL_CHARS,
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        parsed(url)

    assert caught.value.param == "url"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://u:p@a.example/", "user name or a password"),
        ("http://a.example/x\\y", "characters that no URL may have"),
        ("http://0x7f.1/", "a number, but not an address"),
        ("file:///etc/passwd", "http and https"),
        ("/etc/passwd", "form https://host/path"),
    ],
)
def test_the_reason_is_told(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused, match=reason):
        parsed(url)


def host_of(url: str) -> str:
    try:
        return parsed(url).host
    except UrlRefused:
        return ""


@given(st.text("0123456789abcdefx.:[]@/\\%#? 。１①٣", max_size=20))
def test_the_host_is_that_which_others_read_or_none(authority: str) -> None:
    """Nothing that ends the host elsewhere for urllib, and nothing that DNS cannot have."""
    host = host_of(f"http://{authority}/")

    assert host.isascii()
    assert not set(host) & set("@/\\%#?[] ")
    assert not host or not authority.isascii() or host == _as_urllib_reads(authority)


def _as_urllib_reads(authority: str) -> str:
    read = (urlsplit(f"http://{authority}/").hostname or "").removesuffix(".")
    return host_of(f"http://[{read}]/") if ":" in read else read


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("two.wav", "https://a.example/dir/two.wav"),
        ("/two.wav?y", "https://a.example/two.wav?y"),
        ("//b.example/x", "https://b.example/x"),
        ("https://b.example:443/会议", "https://b.example/%E4%BC%9A%E8%AE%AE"),
        ("?y=2", "https://a.example/dir/one.wav?y=2"),
    ],
)
def test_a_redirect_may_be_relative(location: str, url: str) -> None:
    assert str(redirected(FROM, location)) == url


@pytest.mark.parametrize(
    "location",
    [
        *("http://a.example/", "file:///etc/passwd", "https://u@b.example/", "https://[::1/"),
        *("https://0x7f.1/", "javascript:x", "https://a℀.example/"),
    ],
)
def test_a_redirect_leads_no_further_than_a_url(location: str) -> None:
    with pytest.raises(UrlRefused):
        redirected(FROM, location)


def test_a_redirect_may_lead_from_http_to_https() -> None:
    from_http = Target("http", "a.example", 80, "/")

    assert redirected(from_http, "https://a.example/").scheme == "https"
