"""The text of a key, `sk-pc-ID-SECRET`: made, hashed and compared.

The id is public. It finds the key, and stays the same when the secret is changed. The secret has
256 random bits, so its SHA-256 needs no salt: nobody can try so many.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from hashlib import sha256

from deployments.keys.records import Key

FORM = re.compile(r"sk-pc-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
ID_BYTES, SECRET_BYTES = 6, 32
NO_HASH = sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()  # of no key


def new_id() -> str:
    return secrets.token_hex(ID_BYTES)


def new_key(id: str) -> str:
    """A key with this id and a new secret."""
    return f"sk-pc-{id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def id_of(key: str) -> str | None:
    """The public part of a key. None for a text of another form."""
    found = FORM.fullmatch(key)
    return found[1] if found else None


def hash_of(key: str) -> str:
    """SHA-256 of the whole key, in hexadecimal."""
    return sha256(key.encode()).hexdigest()


def valid_hashes(key: Key, now_s: float) -> tuple[str, ...]:
    """The hashes of the secrets that open the door now. `now_s` counts from 1970."""
    if key.expires_s is not None and now_s >= key.expires_s:
        return ()
    is_old_valid = key.old_hash is not None and now_s < key.old_until_s
    return (key.hash, key.old_hash) if is_old_valid and key.old_hash else (key.hash,)


def known(text: str, keys: Mapping[str, Key], now_s: float) -> Key | None:
    """The key that this text is. The time that it takes tells nothing of a secret."""
    id = id_of(text)
    key = keys.get(id) if id else None
    hashes = valid_hashes(key, now_s) if key else ()
    given = hash_of(text)
    matches = [hmac.compare_digest(given, one) for one in (*hashes, NO_HASH)]
    return key if any(matches) else None
