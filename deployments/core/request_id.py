"""The id of a request, which says when the request arrived: a UUID of version 7 (RFC 9562, 5.7)."""

from __future__ import annotations

import secrets
import time
import uuid

VERSION_7, VARIANT = 0x7 << 76, 0b10 << 62


def new_request_id() -> str:
    """An id for a request that arrives now."""
    random = secrets.randbits(74)
    low = VERSION_7 | random >> 62 << 64 | VARIANT | random & ((1 << 62) - 1)
    return str(uuid.UUID(int=(time.time_ns() // 1_000_000 << 80) | low))


def arrived_s(request: str) -> float:
    """When the request arrived, in seconds since 1970, to a millisecond."""
    return (uuid.UUID(request).int >> 80) / 1000
