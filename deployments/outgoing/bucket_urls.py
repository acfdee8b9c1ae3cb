"""URLs of objects, such as `s3://calls/monday.wav`, in the buckets that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from deployments.core.errors import UrlRefused

SCHEMES = ("s3", "oss", "gs")
ODD_PARTS = ("", ".", "..")  # between the slashes of a key


def is_bucket_url(url: str) -> bool:
    scheme, mark, _ = url.partition("://")
    return bool(mark) and scheme.lower() in SCHEMES


def check_bucket_url(url: str, buckets: Sequence[str]) -> None:
    """Raises UrlRefused unless the URL names an object under one of the buckets.

    An entry may end with a folder: `s3://calls/shared` allows what lies in that folder. A key with
    an empty part or one of dots is refused, because the stores take it for a path.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket without its other half
        raise UrlRefused("The URL names no object of a bucket.") from None
    key = parts.path.removeprefix("/").removesuffix("/")
    is_odd = not url.isprintable() or any(part in ODD_PARTS for part in key.split("/"))
    if is_odd or parts.query or parts.fragment:
        raise UrlRefused("The URL names no object of a bucket.")
    if not any(url.startswith(bucket.rstrip("/") + "/") for bucket in buckets):
        raise UrlRefused("The setting fetch.buckets does not name this bucket.")
