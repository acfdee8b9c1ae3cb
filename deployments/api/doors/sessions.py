"""The value of the session's cookie, which every ingress can check by itself.

It names the key and its end, and is signed with a secret that all ingresses have. The signature
also covers the hash of the key, so a session ends when its key is revoked or gets a new secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256

from deployments.keys.records import Key
from deployments.keys.secrets import valid_hashes


def make(key: Key, end_s: float, secret: str) -> str:
    """`end_s` counts from 1970."""
    body = f"{key.id}.{int(end_s)}"
    return f"{body}.{_signature(body, key.hash, secret)}"


def known(value: str, keys: Mapping[str, Key], secret: str, now_s: float) -> Key | None:
    """The key of a session that has not ended."""
    id, _, rest = value.partition(".")
    end, _, signature = rest.partition(".")
    key = keys.get(id)
    if key is None or not secret or not (end.isascii() and end.isdecimal()) or now_s >= int(end):
        return None
    given = signature.encode()
    signed = [_signature(f"{id}.{end}", one, secret) for one in valid_hashes(key, now_s)]
    return key if any([hmac.compare_digest(given, one.encode()) for one in signed]) else None


def _signature(body: str, hash: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"{body}.{hash}".encode(), sha256).hexdigest()
