"""The length that a recording announces in its head, for telling how long the work will take."""

from __future__ import annotations

import threading

import av
import numpy as np

from deployments.core.errors import AsrError
from deployments.core.media.containers import identify
from deployments.core.media.decode import refuse_other_files
from deployments.core.media.guards import Bytes
from deployments.core.types import Upload

MICROSECONDS_PER_MS = 1000
LONGEST_MS = 10 * 86_400_000  # more than that is a mistake or a lie


def announced_ms(upload: Upload, stop: threading.Event | None = None) -> int | None:
    """Milliseconds. None where the file says nothing, or nothing that can be.

    The truth is known once the recording is decoded. Another thread may set `stop`, which ends the
    work.
    """
    try:
        kind, sound = identify(np.ascontiguousarray(upload).data)
        with av.open(
            Bytes(sound, stop),
            "r",
            format=kind.demuxer,
            metadata_errors="replace",
            io_open=refuse_other_files,
        ) as opened:
            found = opened.duration
    except (AsrError, av.error.FFmpegError):
        return None
    length_ms = (found or 0) // MICROSECONDS_PER_MS
    return length_ms if 0 < length_ms <= LONGEST_MS else None
