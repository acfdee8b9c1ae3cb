"""Tells from an upload's bytes what kind of file they are, and whether its end is missing.

FFmpeg guesses the kind too, but its guess may be a playlist, which opens other files. Here the
first bytes decide, and FFmpeg may then use the one demuxer of that kind only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deployments.core.errors import InvalidAudio, UnsupportedContainer
from deployments.core.media import lengths, search

MAX_TAGS = 100  # in front of the sound


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file that can be read. `demuxer` is FFmpeg's name for it."""

    name: str
    demuxer: str
    is_cut: Callable[[memoryview], bool]
    counts_samples: bool = False  # its header has the exact number of samples
    has_stamps: bool = False  # each packet says when it begins, so that missing ones are noticed


WAV = Container("WAV", "wav", lengths.wav_is_cut)
FLAC = Container("FLAC", "flac", lengths.never_known, counts_samples=True)
MP3 = Container("MP3", "mp3", lengths.mp3_is_cut)
AAC = Container("AAC", "aac", lengths.adts_is_cut)
MP4 = Container("MP4", "mov", lengths.mp4_is_cut, has_stamps=True)
OGG = Container("Ogg", "ogg", lengths.ogg_is_cut, has_stamps=True)
MATROSKA = Container("Matroska or WebM", "matroska", lengths.matroska_is_cut, has_stamps=True)
AMR = Container("AMR", "amr", lengths.amr_is_cut)
TS = Container("MPEG transport stream", "mpegts", lengths.never_known, has_stamps=True)

# (offset, bytes there, kind); the first that fits counts.
READ: tuple[tuple[int, bytes, Container], ...] = (
    (8, b"WAVE", WAV),
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
    (0, b"\x1aE\xdf\xa3", MATROSKA),
    (0, b"#!AMR", AMR),
    *((4, box, MP4) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    # MPEG audio layers III and II, versions 1, 2 and 2.5; then AAC in ADTS.
    *(
        (0, b"\xff" + bytes([second]), MP3)
        for second in b"\xfb\xfa\xf3\xf2\xe3\xe2\xfd\xfc\xf5\xf4"
    ),
    *((0, b"\xff" + bytes([second]), AAC) for second in b"\xf1\xf0\xf9\xf8"),
)

NOT_READ: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"AVI ", "an AVI video"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (0, b"\x00\x00\x01\xba", "an MPEG programme stream"),
    (8, b"AIFF", "an AIFF file"),
    (8, b"AIFC", "an AIFF file"),
    (0, b"caff", "a CAF file"),
    (0, b".snd", "a Sun AU file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"#!SILK", "a SILK recording"),
    (1, b"#!SILK", "a SILK recording"),
    (0, b"MZ", "a program"),
    (0, b"\x7fELF", "a program"),
    (0, b"\xff\xfe", "a text file"),
    (0, b"\xfe\xff", "a text file"),
)

READ_NAMES = "WAV, FLAC, MP3, M4A/AAC, Opus/Ogg, WebM, AMR, MP4, MKV and MPEG-TS"
TEXT_PROBE_BYTES = 512


def _is_text(data: memoryview) -> bool:
    head = bytes(data[:TEXT_PROBE_BYTES]).decode("utf-8", errors="ignore")
    # `ignore` drops the bytes that are no UTF-8: text loses at most a cut last character.
    n_kept_bytes = len(head.encode())
    return n_kept_bytes >= min(len(data), TEXT_PROBE_BYTES) - 3 and all(
        c.isprintable() or c in "\r\n\t\f\ufeff" for c in head
    )


def _without_tags(data: memoryview) -> memoryview:
    """The bytes after any ID3v2 and APEv2 tags, which may stand before MP3, AAC and FLAC."""
    for _ in range(MAX_TAGS):
        n_bytes = search.id3_tag_bytes(data) or search.ape_tag_bytes(data)
        if not n_bytes:
            break
        data = data[n_bytes:]
    return data


def identify(data: memoryview) -> tuple[Container, memoryview]:
    """The kind of file, and its bytes without what stands in front of the sound.

    Raises UnsupportedContainer for a known kind that cannot be read. Raises InvalidAudio for no
    bytes, for bytes of no known kind, and for a file whose end is missing.
    """
    if not len(data):
        raise InvalidAudio("The file is empty.")
    sound = _without_tags(data)
    container = _readable(sound)
    if container is None:
        _refuse_known(data)
        container, sound = _behind_junk(sound)
    if container is None and len(sound) < len(data):
        container = MP3  # a tag and then padding: FFmpeg looks for the first frame
    if container is None:
        raise _unknown(data)
    if container.is_cut(sound):
        raise InvalidAudio(f"The {container.name} file is truncated: its end is missing.")
    return container, sound[: lengths.amr_end(sound)] if container is AMR else sound


def _readable(data: memoryview) -> Container | None:
    fits = (c for offset, magic, c in READ if data[offset : offset + len(magic)] == magic)
    return next(fits, None)


def _behind_junk(data: memoryview) -> tuple[Container | None, memoryview]:
    """The kind of a file that begins with something else, and its bytes from its beginning on."""
    if (at := search.find_transport_packets(data)) is not None:
        return TS, data[at:]
    found = (
        (search.find_head(data), None),
        (search.find_frames(data, search.adts_frame_bytes), AAC),
        (search.find_frames(data, search.mpeg_frame_bytes), MP3),
    )
    known = [(at, container) for at, container in found if at is not None]
    if not known:
        return None, data
    at, container = min(known, key=lambda pair: pair[0])
    return container or _readable(data[at:]), data[at:]


def _refuse_known(data: memoryview) -> None:
    """Raises UnsupportedContainer for a kind that is known and not read."""
    for offset, magic, name in NOT_READ:
        if data[offset : offset + len(magic)] == magic:
            raise UnsupportedContainer(f"The file is {name}. Read here: {READ_NAMES}.")


def _unknown(data: memoryview) -> UnsupportedContainer | InvalidAudio:
    if _is_text(data):
        return UnsupportedContainer(f"The file is a text file. Read here: {READ_NAMES}.")
    return InvalidAudio(f"The file is not audio of a known kind. Read here: {READ_NAMES}.")
