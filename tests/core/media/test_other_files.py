"""No upload makes FFmpeg open anything else: no file of this machine, and no connection."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from pathlib import Path
from select import select
from struct import pack, unpack_from

import av
import av.error
import pytest

from deployments.core.errors import AsrError
from tests.core.media.encode import a_file, read

WAV = a_file("wav", "pcm_s16le", 16000)
MOV = a_file("mov", "pcm_s16le", 16000)
IN_OPEN = 0x20
SURROUNDING = (b"moov", b"trak", b"mdia", b"minf", b"dinf")


@contextmanager
def watched(folder: Path) -> Iterator[Callable[[], bool]]:
    """Says whether a file in the folder was opened since the block began, by inotify."""
    libc = CDLL(None)
    watch = libc.inotify_init()
    assert libc.inotify_add_watch(watch, str(folder).encode(), IN_OPEN) > 0
    with open(watch, "rb", buffering=0):
        yield lambda: bool(select([watch], [], [], 0)[0])


@contextmanager
def listening() -> Iterator[tuple[int, Callable[[], bool]]]:
    """A port of loopback, and whether somebody came to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1], lambda: bool(select([server], [], [], 0)[0])


def alias(path: str) -> bytes:
    """The box of a QuickTime reference to sound in another file, as FFmpeg reads it."""
    name = path.encode()
    padded = name + b"\0" * (len(name) % 2)
    end = pack(">hH", 2, len(name)) + padded + pack(">hH", -1, 0)
    record = bytes(10) + b"\0" * 28 + bytes(12) + b"\0" * 64 + bytes(16) + pack(">HH", 0, 0)
    body = bytes(4) + record + bytes(16) + end  # version and flags: not in this file
    return pack(">I", 8 + len(body)) + b"alis" + body


def with_reference(mov: bytes, path: str) -> bytes:
    """The file with a sound track whose samples are in another file."""
    at = mov.index(b"dref") - 4
    (n_old,) = unpack_from(">I", mov, at)
    entry = alias(path)
    dref = pack(">I", 16 + len(entry)) + b"dref" + pack(">II", 0, 1) + entry
    changed = bytearray(mov[:at] + dref + mov[at + n_old :])
    for kind in SURROUNDING:
        place = mov.index(kind) - 4
        (n_bytes,) = unpack_from(">I", changed, place)
        changed[place : place + 4] = pack(">I", n_bytes + len(dref) - n_old)
    return bytes(changed)


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{0}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{0}'\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {1} RTP/AVP 0\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="audio/wav"><Representation id="1" bandwidth="1">'
    "<BaseURL>{0}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><image href="{0}"/></svg>'
TEXTS = {"hls": HLS, "concat": CONCAT, "sdp": SDP, "dash": DASH, "svg": SVG}
PLACES = ["{path}", "file://{path}", "file:{path}", "http://127.0.0.1:{port}/x.wav"]
FRONTS: dict[str, bytes] = {
    "alone": b"",
    "behind a tag": b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10),
    "behind zeros": bytes(1000),
    "behind a sound's first bytes": b"RIFF\x00\x00\x00\x00WAVE",
}


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_list_of_other_files_opens_none(
    tmp_path: Path, kind: str, place: str, front: str
) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(WAV)

    with watched(tmp_path) as was_opened, listening() as (port, was_reached):
        text = TEXTS[kind].format(place.format(path=other, port=port), port)
        with pytest.raises(AsrError):
            read(FRONTS[front] + text.encode())

        assert not was_opened()
        assert not was_reached()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("suffix", ["", "/other.wav"])
def test_a_track_that_lies_in_another_file_is_not_read_there(
    tmp_path: Path, place: str, suffix: str
) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(WAV)

    with watched(tmp_path) as was_opened, listening() as (port, was_reached):
        data = with_reference(MOV, place.format(path=other, port=port) + suffix)
        with suppress(AsrError):  # FFmpeg may take the samples from the file itself
            read(data)

        assert not was_opened()
        assert not was_reached()


def test_these_files_would_lead_ffmpeg_to_another_file_if_it_were_let(tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(WAV)
    concat = CONCAT.format(other).encode()
    mov = with_reference(MOV, str(other))

    with watched(tmp_path) as was_opened:
        av.open(io.BytesIO(concat), format="concat", options={"safe": "0"}).close()

        assert was_opened()
    with watched(tmp_path) as was_opened:
        options = {"enable_drefs": "1", "use_absolute_path": "1"}
        with suppress(av.error.FFmpegError):
            av.open(io.BytesIO(mov), format="mov", options=options).close()

        assert was_opened()
