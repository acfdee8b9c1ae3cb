"""The signature of a webhook, by the Standard Webhooks specification (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from hashlib import sha256

PREFIX = "whsec_"
SECRET_BYTES = 24
LEAST_BYTES, MOST_BYTES = 24, 64  # the specification's bounds


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def key_of(secret: str) -> bytes:
    """The bytes of a secret such as `whsec_MfKQ...`. Raises ValueError without showing it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError("The webhook secret is not `whsec_` and 24 to 64 bytes in base64.")
    return key


def headers(secret: str, message: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt to deliver the message. Its id is the same in every attempt."""
    signed = b".".join((message.encode(), str(at_s).encode(), body))
    signature = base64.b64encode(hmac.digest(key_of(secret), signed, sha256)).decode("ascii")
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{signature}",
    }
