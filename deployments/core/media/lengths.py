"""Tells whether the end of a file is missing, by the lengths that the file itself announces.

A file that somebody appended something to is whole: only parts of its own kind count.
"""

from __future__ import annotations

import struct

# Recorders often write a data length that is off by their own header (8, 36 or 44 bytes).
WAV_SLACK_BYTES = 64
# From here on a 32-bit length is a placeholder: the program (sox, FFmpeg) wrote to a pipe.
WAV_PLACEHOLDER_BYTES = 0x7FFF_0000
# So is a large length whose last 16 bits are all zeros or all ones, such as 0x7E000000.
WAV_ROUND_BYTES = 0x0100_0000
# The longest MPEG audio frame; encoders disagree whether their count includes the Xing frame.
MP3_FRAME_BYTES = 1441
# Frame sizes by mode, type byte included. 3GPP TS 26.101 table A.1b and TS 26.201 table A.1b.
AMR_NB_FRAME_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 1, 1, 1, 1)
AMR_WB_FRAME_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
# The boxes at the top of a file. ISO/IEC 14496-12 table 1, and QuickTime's own.
MP4_BOXES = frozenset(
    b"ftyp styp moov moof mdat imda mfra sidx ssix prft emsg meta meco free skip wide pnot udta"
    b" uuid pdin".split()
)
AMR_NB_RESERVED, AMR_WB_RESERVED = range(9, 15), range(10, 14)  # types that no recorder writes
MAX_TAIL_BYTES = 64 * 1024  # the longest tag behind the sound
# More pages, frames or boxes than 20 hours have. A check that stops here has found nothing, and
# the decoder, which can be stopped, reads on. Otherwise a crafted file would block a thread for
# minutes.
MAX_FRAMES = 4_000_000


def never_known(data: memoryview) -> bool:
    """Always False, because the format does not say how long the file should be."""
    return False


def wav_is_cut(data: memoryview) -> bool:
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
            if _is_placeholder(n_bytes) and n_bytes > len(data):
                n_bytes = n_data_64
            return bool(offset + n_bytes > len(data) + WAV_SLACK_BYTES)
        offset += n_bytes + n_bytes % 2
    return True


def _is_placeholder(n_bytes: int) -> bool:
    is_round = n_bytes >= WAV_ROUND_BYTES and n_bytes & 0xFFFF in (0, 0xFFFF)
    return n_bytes >= WAV_PLACEHOLDER_BYTES or is_round


def mp4_is_cut(data: memoryview) -> bool:
    """True if a top-level box announces more bytes than the file has."""
    offset = 0
    for _ in range(MAX_FRAMES):
        if offset + 8 > len(data):
            break
        n_bytes, name = struct.unpack_from(">I4s", data, offset)
        if name not in MP4_BOXES:  # a recorder's own tag behind the last box
            return False
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


def matroska_is_cut(data: memoryview) -> bool:
    """True if the segment announces more bytes than the file has. A live one announces none."""
    try:
        n_header_bytes, offset = _vint(data, 4)
        n_segment_bytes, offset = _vint(data, offset + (n_header_bytes or 0) + 4)
    except IndexError:
        return True
    return n_segment_bytes is not None and offset + n_segment_bytes > len(data)


def ogg_is_cut(data: memoryview) -> bool:
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


def adts_is_cut(data: memoryview) -> bool:
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


def amr_end(data: memoryview) -> int:
    """Where the last frame ends, which is behind the end of the file if that frame is not whole.

    What follows and is no frame is a tag, unless so much follows that it must be damage.
    """
    is_wide = bytes(data[:9]) == b"#!AMR-WB\n"
    frame_bytes = AMR_WB_FRAME_BYTES if is_wide else AMR_NB_FRAME_BYTES
    reserved = AMR_WB_RESERVED if is_wide else AMR_NB_RESERVED
    offset = start = 9 if is_wide else 6
    for _ in range(MAX_FRAMES):
        if offset >= len(data):
            break
        kind = data[offset] >> 3 & 15
        if data[offset] & 0x87 != 0x04 or kind in reserved:  # recorders mark their frames as good
            return offset if len(data) - offset <= MAX_TAIL_BYTES else len(data)
        if offset + frame_bytes[kind] > len(data) and data[offset] != data[start]:
            return offset  # a recorder keeps to one rate, so this is no frame of its own
        offset += frame_bytes[kind]
    return offset


def amr_is_cut(data: memoryview) -> bool:
    """True if the last frame is not whole."""
    return amr_end(data) > len(data)


def mp3_is_cut(data: memoryview) -> bool:
    """True if the encoder's own count of bytes (the Xing frame) is more than there are."""
    head = bytes(data[:256])
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16:
        return False
    flags, first, second = struct.unpack_from(">III", head, at + 4)
    n_bytes = second if flags & 1 else first
    return bool(flags & 2 and n_bytes > len(data) + MP3_FRAME_BYTES)
