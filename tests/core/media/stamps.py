"""Files whose time stamps say that something is missing, or say nonsense."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
from numpy.typing import NDArray

from deployments.core.types import SAMPLE_RATE_HZ, Audio
from tests.core.media.encode import encode


def beeps(n: int) -> NDArray[np.int16]:
    """(1, n * 48000) int16, 48 kHz: a beep of 0.1 s at the beginning of each second."""
    t_s = np.arange(4800) / 48_000
    second = np.zeros(48_000)
    second[:4800] = 12_000 * np.sin(2 * np.pi * 1000 * t_s)
    return np.tile(second, n).astype(np.int16)[None]


def beep_times_s(audio: Audio) -> list[float]:
    """When the beeps begin."""
    loud = np.abs(audio.astype(np.int32)) > 2000
    # a beep is on at `i` if it was off for 50 ms before
    onsets = [i for i in np.flatnonzero(loud) if not loud[max(0, i - 800) : i].any()]
    return [float(i) / SAMPLE_RATE_HZ for i in onsets]


def restamped(data: bytes, container: str, stamp_s: Callable[[float], float | None]) -> bytes:
    """The file with the stamp of each packet changed. None drops the packet."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(file, "w", format=container, options={"avoid_negative_ts": "disabled"}) as target,
    ):
        track = source.streams.audio[0]
        out = target.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.pts is None or packet.time_base is None:
                continue
            at_s = stamp_s(float(packet.pts * packet.time_base))
            if at_s is None:
                continue
            packet.pts = packet.dts = round(at_s / packet.time_base)
            packet.stream = out
            target.mux(packet)
    return file.getvalue()


def beeping_file(
    n: int, container: str, codec: str, stamp_s: Callable[[float], float | None]
) -> bytes:
    """`n` beeps, one a second, with changed stamps."""
    plain = encode(beeps(n), rate_hz=48_000, container=container, codec=codec)
    return restamped(plain, container, stamp_s)
