"""`fuzz`: damaged recordings of every kind through the decoder, as clients and enemies send them.

Each is made from a good file: bytes flipped, lengths replaced by extreme ones, parts removed,
repeated or taken from a file of another kind. Every file must give samples or an error that a
client can understand.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

import av
import numpy as np
import psutil
import typer
from av.audio.stream import AudioStream

from benchmarks.material.synthetic_audio import voice
from benchmarks.results import Figures
from deployments.core.errors import AsrError
from deployments.core.media.decode import decode

# (container, codec, Hz) of the good files.
KINDS = (
    ("wav", "pcm_s16le", 16_000),
    ("flac", "flac", 16_000),
    ("mp3", "libmp3lame", 44_100),
    ("adts", "aac", 44_100),
    ("mp4", "aac", 44_100),
    ("mov", "pcm_s16le", 16_000),
    ("ogg", "libopus", 48_000),
    ("webm", "libopus", 48_000),
    ("matroska", "flac", 16_000),
    ("mpegts", "aac", 48_000),
    ("amr", "libopencore_amrnb", 8_000),
)
MAX_AUDIO_S = 12 * 3600.0  # the service's own limit
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
MAX_CHANGES = 12
MIN_MB = 0.02  # smaller files are timed as if they had this size
SLOW_S = 0.5  # is told
MIB = 1 << 20


def run(
    files: Annotated[int, typer.Option(help="Damaged files to decode.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Draws other files.")] = 0,
) -> Figures:
    """How many were read, refused, or failed in a way that no client understands; the slowest."""
    rng = np.random.default_rng(seed)
    good = [_encoded(*kind) for kind in KINDS]
    process, early_bytes = psutil.Process(), 0
    n_read = n_refused = n_foreign = 0
    slowest_s = slowest_s_per_mb = 0.0
    for index in range(files):
        data = damaged(good, rng)
        began_s = time.thread_time()
        try:
            decode(np.frombuffer(data, np.uint8), channel=None, max_duration_s=MAX_AUDIO_S)
            n_read += 1
        except AsrError:
            n_refused += 1
        except Exception as error:
            n_foreign += 1
            print(f"file {index} of seed {seed}: {error!r}", file=sys.stderr)
        took_s = time.thread_time() - began_s
        if took_s > SLOW_S:
            kind, slow = f"{bytes(data[:16])!r}", f"{took_s:.1f} s for {len(data)} bytes"
            print(f"file {index} of seed {seed}: {slow}, beginning with {kind}", file=sys.stderr)
        slowest_s = max(slowest_s, took_s)
        slowest_s_per_mb = max(slowest_s_per_mb, took_s / max(len(data) / 1e6, MIN_MB))
        if index == files // 10:
            early_bytes = process.memory_info().rss
    return {
        "files": files,
        "read": n_read,
        "refused": n_refused,
        "other_errors": n_foreign,
        "slowest_s": slowest_s,
        "slowest_s_per_mb": slowest_s_per_mb,
        "memory_growth_mib": (process.memory_info().rss - early_bytes) / MIB,
        "seed": seed,
    }


def damaged(good: list[bytes], rng: np.random.Generator) -> bytes:
    """One of the good files after a few random changes, most of them near its head."""
    data = bytearray(good[rng.integers(len(good))])
    for _ in range(rng.integers(1, MAX_CHANGES)):
        change = CHANGES[rng.integers(len(CHANGES))]
        reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
        change(data, int(rng.integers(max(reach, 1))), rng, good)
        if not data:
            break
    return bytes(data)


def _flip(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    data[at] ^= 1 << int(rng.integers(8))


def _extreme(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    """A length, rate or stamp at a limit of its type."""
    n_bytes = int(rng.choice((1, 2, 4, 8)))
    value = EXTREMES[rng.integers(len(EXTREMES))] % (1 << 8 * n_bytes)
    order = "little" if rng.random() < 0.5 else "big"
    data[at : at + n_bytes] = value.to_bytes(n_bytes, order)  # type: ignore[arg-type]


def _noise(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    n_bytes = int(rng.integers(1, 400))
    data[at : at + n_bytes] = rng.bytes(n_bytes)


def _remove(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    del data[at : at + int(rng.integers(1, 2000))]


def _repeat(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    part = bytes(data[at : at + int(rng.integers(1, 4000))])
    data[at:at] = part * int(rng.integers(1, 4))


def _cut(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    if rng.random() < 0.3:
        del data[at + 100 :]


def _splice(data: bytearray, at: int, rng: np.random.Generator, good: list[bytes]) -> None:
    """A part of a file of another kind in the middle."""
    other = good[rng.integers(len(good))]
    start = int(rng.integers(len(other)))
    data[at:at] = other[start : start + int(rng.integers(1, 4000))]


CHANGES: tuple[Callable[[bytearray, int, np.random.Generator, list[bytes]], None], ...] = (
    _flip,
    _flip,
    _extreme,
    _extreme,
    _noise,
    _remove,
    _repeat,
    _cut,
    _splice,
)


def _encoded(container: str, codec: str, rate_hz: int) -> bytes:
    """Four seconds of speech-like sound as a file."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(voice(4000, seed=0)[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=rate_hz,
            frame_size=stream.codec_context.frame_size or None,
        )
        for ready in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return file.getvalue()
