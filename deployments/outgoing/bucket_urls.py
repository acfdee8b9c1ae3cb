"""URLs of objects, such as `s3://calls/monday.wav`, in the buckets that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from deployments.core.errors import UrlRefused

SCHEMES = ("s3", "oss", "gs")


def is_bucket_url(url: str) -> bool:
    return urlsplit(url).scheme.lower() in SCHEMES


def check_bucket_url(url: str, buckets: Sequence[str]) -> None:
    """Raises UrlRefused unless the URL names an object under one of the buckets.

    An entry may end with a folder: `s3://calls/shared` allows what lies in that folder.
    """
    parts = urlsplit(url)
    key = parts.path.strip("/")
    if parts.query or parts.fragment or not key or ".." in key.split("/"):
        raise UrlRefused("The URL names no object of a bucket.")
    if not any(url.startswith(bucket.rstrip("/") + "/") for bucket in buckets):
        raise UrlRefused("The setting fetch.buckets does not name this bucket.")
