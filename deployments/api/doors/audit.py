"""One line of JSON for each request: who, what, how long, with what outcome.

It has no audio, no text, no header and no query of a URL. It goes where Serve's own log of the
replica goes.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field

from deployments.keys.records import NOBODY, Caller

# Below Serve's logger, whose file it shares. Serve gives no other logger a file.
logger = logging.getLogger("ray.serve.paraformer.audit")

MAX_ID_CHARS = 100
GONE = 499  # as nginx logs a client that has left before its answer began


@dataclass(slots=True)
class Visit:
    """What is known of a request while it is under way."""

    method: str
    request_id: str
    caller: Caller = NOBODY
    status: int = GONE
    n_bytes: int = 0  # of the body, as far as it was read
    model: str = ""
    audio_ms: int = 0
    began_s: float = field(default_factory=time.perf_counter)

    def write(self, route: str) -> None:
        """`route` is the pattern of the path, "" for one that does not exist."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": self.request_id[:MAX_ID_CHARS],
            "key": self.caller.id,
            "name": self.caller.name,
            "method": self.method,
            "route": route,
            "status": self.status,
            "bytes_in": self.n_bytes,
            "audio_s": self.audio_ms / 1000,
            "wall_ms": round(1000 * (time.perf_counter() - self.began_s), 1),
        }
        logger.info(json.dumps(line, ensure_ascii=False))
