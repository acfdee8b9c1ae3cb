"""Links to transcripts for who has no API key: signed, and good for a day.

The signature covers the job, the file and the time at which the link expires.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from hashlib import sha256

GOOD_FOR_S = 24 * 3600  # as long as DashScope's


def signed(secret: str, job: str, number: int, now_s: float) -> dict[str, str]:
    """The query of a link that is made at `now_s`."""
    expires = str(int(now_s) + GOOD_FOR_S)
    return {"Expires": expires, "Signature": _signature(secret, job, number, expires)}


def is_good(secret: str, job: str, number: int, query: Mapping[str, str], now_s: float) -> bool:
    """Whether the query is one that `signed` made, and not too long ago."""
    expires, sent = query.get("Expires", ""), query.get("Signature", "")
    expected = _signature(secret, job, number, expires)
    is_ours = hmac.compare_digest(expected.encode(), sent.encode())
    return is_ours and now_s < int(expires)


def _signature(secret: str, job: str, number: int, expires: str) -> str:
    told = "\n".join((job, str(number), expires)).encode()
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), told, sha256)).decode().rstrip("=")
