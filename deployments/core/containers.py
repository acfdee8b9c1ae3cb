"""What kind of file the bytes are, and whether its end is missing; from the bytes alone.

FFmpeg guesses too, but its guess may be a playlist that opens other files. Here the first bytes
decide, and decoding is then held to that one demuxer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from deployments.core.errors import InvalidAudio, UnsupportedContainer

# Recorders often write a data length that is off by their own header (8, 36 or 44 bytes).
WAV_SLACK_BYTES = 64
# From here on a 32-bit length is a placeholder of a program that wrote to a pipe (sox, FFmpeg).
WAV_PLACEHOLDER_BYTES = 0x7FFF_0000
# The longest MPEG audio frame; encoders disagree whether their count includes the Xing frame.
MP3_FRAME_BYTES = 1441
# Frame sizes by mode, type byte included. 3GPP TS 26.101 table A.1b and TS 26.201 table A.1b.
AMR_NB_FRAME_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 1, 1, 1, 1)
AMR_WB_FRAME_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
# More pages, frames or boxes than 20 hours have: a walk that ends there tells nothing, and the
# decoder, which can be stopped, reads on. Without it a crafted file keeps a thread for minutes.
MAX_FRAMES = 4_000_000
MAX_TAGS = 100  # in front of the sound


def _never_known(data: memoryview) -> bool:
    """False: the format does not say how long the file should be."""
    return False


def _wav_is_cut(data: memoryview) -> bool:
    """True if the data chunk announces more bytes than the file has."""
    offset, n_data_64 = 12, 0
    for _ in range(MAX_FRAMES):
        if offset + 8 > len(data):
            break
        name, n_bytes = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if name == b"ds64" and offset + 16 <= len(data):
            n_data_64 = struct.unpack_from("<Q", data, offset + 8)[0]
        if name == b"data":
            if n_bytes >= WAV_PLACEHOLDER_BYTES and len(data) < WAV_PLACEHOLDER_BYTES:
                n_bytes = n_data_64
            return bool(offset + n_bytes > len(data) + WAV_SLACK_BYTES)
        offset += n_bytes + n_bytes % 2
    return True


def _mp4_is_cut(data: memoryview) -> bool:
    """True if a top-level box announces more bytes than the file has."""
    offset = 0
    for _ in range(MAX_FRAMES):
        if offset + 8 > len(data):
            break
        n_bytes, _ = struct.unpack_from(">I4s", data, offset)
        if n_bytes == 1 and offset + 16 <= len(data):
            n_bytes = struct.unpack_from(">Q", data, offset + 8)[0]
        if n_bytes < 8:  # 0: up to the end of the file
            return False
        offset += n_bytes
    return offset > len(data)


def _vint(data: memoryview, offset: int) -> tuple[int | None, int]:
    """An EBML length at `offset` (None: unknown) and the offset after it."""
    n_bytes = 9 - data[offset].bit_length()
    value = int.from_bytes(data[offset : offset + n_bytes], "big") & ((1 << 7 * n_bytes) - 1)
    return (None if value == (1 << 7 * n_bytes) - 1 else value), offset + n_bytes


def _matroska_is_cut(data: memoryview) -> bool:
    """True if the segment announces more bytes than the file has; a live one says nothing."""
    try:
        n_header_bytes, offset = _vint(data, 4)
        n_segment_bytes, offset = _vint(data, offset + (n_header_bytes or 0) + 4)
    except IndexError:
        return True
    return n_segment_bytes is not None and offset + n_segment_bytes > len(data)


def _ogg_is_cut(data: memoryview) -> bool:
    """True if the last page is not whole."""
    offset = 0
    for _ in range(MAX_FRAMES):
        if bytes(data[offset : offset + 4]) != b"OggS":
            break
        if offset + 27 > len(data):
            return True
        table = data[offset + 27 : offset + 27 + data[offset + 26]]
        offset += 27 + data[offset + 26] + sum(table)
    return offset > len(data)


def _adts_is_cut(data: memoryview) -> bool:
    """True if the last AAC frame is not whole."""
    offset = 0
    for _ in range(MAX_FRAMES):
        if offset + 6 > len(data) or data[offset] != 0xFF or data[offset + 1] & 0xF6 != 0xF0:
            break
        n_bytes = (data[offset + 3] & 3) << 11 | data[offset + 4] << 3 | data[offset + 5] >> 5
        if n_bytes < 7:
            return False
        offset += n_bytes
    return offset > len(data)


def _amr_is_cut(data: memoryview) -> bool:
    """True if the last frame is not whole."""
    is_wide = bytes(data[:9]) == b"#!AMR-WB\n"
    frame_bytes = AMR_WB_FRAME_BYTES if is_wide else AMR_NB_FRAME_BYTES
    offset = 9 if is_wide else 6
    for _ in range(MAX_FRAMES):
        if offset >= len(data):
            break
        offset += frame_bytes[data[offset] >> 3 & 15]
    return offset > len(data)


def _mp3_is_cut(data: memoryview) -> bool:
    """True if the encoder's own count of bytes (the Xing frame) is more than there are."""
    head = bytes(data[:256])
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16:
        return False
    flags, first, second = struct.unpack_from(">III", head, at + 4)
    n_bytes = second if flags & 1 else first
    return bool(flags & 2 and n_bytes > len(data) + MP3_FRAME_BYTES)


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file that is read here; `demuxer` is FFmpeg's name for it."""

    name: str
    demuxer: str
    is_cut: Callable[[memoryview], bool]
    counts_samples: bool = False  # its header has the exact number of samples


WAV = Container("WAV", "wav", _wav_is_cut)
FLAC = Container("FLAC", "flac", _never_known, counts_samples=True)
MP3 = Container("MP3", "mp3", _mp3_is_cut)
AAC = Container("AAC", "aac", _adts_is_cut)
MP4 = Container("MP4", "mov", _mp4_is_cut)
OGG = Container("Ogg", "ogg", _ogg_is_cut)
MATROSKA = Container("Matroska or WebM", "matroska", _matroska_is_cut)
AMR = Container("AMR", "amr", _amr_is_cut)

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

READ_NAMES = "WAV, FLAC, MP3, M4A/AAC, Opus/Ogg, WebM, AMR, MP4 and MKV"
TEXT_PROBE_BYTES = 512


def _is_text(data: memoryview) -> bool:
    head = bytes(data[:TEXT_PROBE_BYTES]).decode("utf-8", errors="ignore")
    # `ignore` drops the bytes that are no UTF-8: text loses at most a cut last character.
    n_kept_bytes = len(head.encode())
    return n_kept_bytes >= min(len(data), TEXT_PROBE_BYTES) - 3 and all(
        c.isprintable() or c in "\r\n\t\f\ufeff" for c in head
    )


def _without_id3(data: memoryview) -> memoryview:
    """The bytes after any ID3v2 tags, which may stand before MP3, AAC and FLAC."""
    for _ in range(MAX_TAGS):
        if bytes(data[:3]) != b"ID3" or len(data) < 10:
            break
        n_tag_bytes = 0
        for byte in data[6:10]:  # four bytes of seven bits
            n_tag_bytes = n_tag_bytes << 7 | byte & 0x7F
        data = data[10 + n_tag_bytes + (10 if data[5] & 0x10 else 0) :]
    return data


def identify(data: memoryview) -> tuple[Container, memoryview]:
    """The kind of file, and its bytes without leading tags.

    Raises UnsupportedContainer for a kind that is not read here, and InvalidAudio for nothing, for
    bytes of no known kind, and for a file whose end is missing.
    """
    if not len(data):
        raise InvalidAudio("The file is empty.")
    sound = _without_id3(data)
    container = _readable(sound)
    if container is None and len(sound) < len(data):
        container = MP3  # a tag and then padding: FFmpeg looks for the first frame
    if container is None:
        raise _unknown(data)
    if container.is_cut(sound):
        raise InvalidAudio(f"The {container.name} file is truncated: its end is missing.")
    return container, sound


def _readable(data: memoryview) -> Container | None:
    fits = (c for offset, magic, c in READ if data[offset : offset + len(magic)] == magic)
    return next(fits, None)


def _unknown(data: memoryview) -> UnsupportedContainer | InvalidAudio:
    for offset, magic, name in NOT_READ:
        if data[offset : offset + len(magic)] == magic:
            return UnsupportedContainer(f"The file is {name}. Read here: {READ_NAMES}.")
    if _is_text(data):
        return UnsupportedContainer(f"The file is a text file. Read here: {READ_NAMES}.")
    return InvalidAudio(f"The file is not audio of a known kind. Read here: {READ_NAMES}.")
