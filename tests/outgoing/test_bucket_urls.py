"""Which URLs of buckets are let through: those under the entries of the configuration alone."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.core.errors import UrlRefused
from deployments.outgoing.bucket_urls import check_bucket_url, is_bucket_url

BUCKETS = ("s3://calls", "oss://meetings/shared/", "gs://talks/a/b")


@pytest.mark.parametrize(
    "url",
    [
        "s3://calls/monday.wav",
        "s3://calls/2026/十一月/周一 早.wav",
        "s3://calls/a..b/...wav",
        "s3://calls/%2e%2e/x",  # a key like any other: nobody decodes it
        "oss://meetings/shared/monday.wav",
        "gs://talks/a/b/c",
    ],
)
def test_an_object_of_a_named_bucket_is_let_through(url: str) -> None:
    assert is_bucket_url(url)
    check_bucket_url(url, BUCKETS)


@pytest.mark.parametrize(
    "url",
    [
        "s3://calls-private/monday.wav",
        "s3://calls.evil.test/monday.wav",
        "s3://call/monday.wav",
        "s3://other/calls/monday.wav",
        "s3://calls@other/monday.wav",
        "s3://user:pass@calls/monday.wav",
        "s3://calls:9000/monday.wav",
        "s3:///calls/monday.wav",
        "s3://Calls/monday.wav",
        "oss://calls/monday.wav",
        "oss://meetings/private/monday.wav",
        "oss://meetings/shared-private/monday.wav",
        "oss://meetings/shared",
        "gs://talks/a/bc",
    ],
)
def test_another_place_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused, match=r"fetch\.buckets"):
        check_bucket_url(url, BUCKETS)


@pytest.mark.parametrize(
    "url",
    [
        "oss://meetings/shared/../private/monday.wav",
        "oss://meetings/shared/x/../../private",
        "s3://calls/..",
        "s3://calls/./x",
        "s3://calls//x",
        "s3://calls/x//",
        "s3://calls/x/.",
        "s3://calls/",
        "s3://calls",
        "s3://calls/x?versionId=3",
        "s3://calls/x#part",
        "oss://meetings/shared/.\n./private",
        "s3://calls/x\x00",
        "s3://calls/\tx",
        "s3://[calls/x",
    ],
)
def test_what_is_no_key_of_an_object_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused, match="names no object"):
        check_bucket_url(url, BUCKETS)


def test_where_no_bucket_is_named_none_is_let_through() -> None:
    with pytest.raises(UrlRefused):
        check_bucket_url("s3://calls/x", ())


@pytest.mark.parametrize(
    "url", ["https://calls/x", "s3", "calls/x", "file:///s3://calls/x", "https://[", ""]
)
def test_other_urls_are_no_buckets(url: str) -> None:
    assert not is_bucket_url(url)


@given(st.text("/.ab\\%2e\n\t?#@: ", max_size=20))
def test_whatever_is_let_through_lies_in_the_folder(rest: str) -> None:
    url = "oss://meetings/shared" + rest
    try:
        check_bucket_url(url, ["oss://meetings/shared"])
    except UrlRefused:
        return

    key = urlsplit(url).path.lstrip("/")
    assert key.startswith("shared/")
    assert not {"", ".", ".."} & {*key.removesuffix("/").split("/")}
