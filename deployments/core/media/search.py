"""Finds where the sound begins in a file that starts with something else.

Recorders, tag editors and web forms put zeros, tags and line ends in front of the first frame, and
a file cut from a broadcast begins in the middle of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_JUNK_BYTES = 64 * 1024
APE_HEADER_BYTES = 32
TS_PACKET_BYTES = (188, 192, 204)  # plain, with time codes (M2TS), with error correction
TS_PACKETS = 4  # that follow each other before they are believed

# ISO/IEC 11172-3 and 13818-3: kbit/s by (is version 1, layer), and Hz by version.
KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

# The first bytes of files that may stand behind junk, long enough not to occur by chance.
HEADS = re.compile(
    rb"fLaC\0\0\0\x22|OggS\0\x02|\x1aE\xdf\xa3[\x80-\xff\x01]|#!AMR(?:-WB)?\n"
    rb"|R(?:IFF|F64)(?s:.{4})WAVE|(?s:....)ftyp[\w ]{4}",
    re.DOTALL,
)


def mpeg_frame_bytes(data: memoryview, at: int) -> int:
    """The length of the MPEG audio frame (MP1, MP2, MP3) that begins there, or 0 if none does."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return 0
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    rate_index, hz_index, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index in (0, 15) or hz_index == 3:
        return 0
    bits_per_s = KBPS[version == 3, layer][rate_index - 1] * 1000
    rate_hz = RATES_HZ[version][hz_index]
    if layer == 1:
        return (12 * bits_per_s // rate_hz + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits_per_s // rate_hz + padding


def adts_frame_bytes(data: memoryview, at: int) -> int:
    """The length of the AAC frame that begins there, or 0 if none does (ISO/IEC 13818-7, 6.2)."""
    if at + 7 > len(data) or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return 0
    n_bytes = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return n_bytes if n_bytes > 7 and data[at + 2] >> 2 & 15 < 13 else 0


def find_frames(data: memoryview, frame_bytes: Callable[[memoryview, int], int]) -> int | None:
    """Where two frames of the same make follow each other, near the beginning. None: nowhere."""
    at = 0
    head = bytes(data[:MAX_JUNK_BYTES])
    while (at := head.find(b"\xff", at)) >= 0:
        n_bytes = frame_bytes(data, at)
        if n_bytes and frame_bytes(data, at + n_bytes) and _same_make(data, at, at + n_bytes):
            return at
        at += 1
    return None


def _same_make(data: memoryview, first: int, second: int) -> bool:
    """Whether both headers have the same version, layer and sampling rate."""
    return data[first + 1] | 1 == data[second + 1] | 1 and not (
        (data[first + 2] ^ data[second + 2]) & 0x0C
    )


def find_head(data: memoryview) -> int | None:
    """Where a file with an unmistakable beginning starts, near the beginning. None: nowhere."""
    found = HEADS.search(bytes(data[:MAX_JUNK_BYTES]))
    return found.start() if found else None


def find_transport_packets(data: memoryview) -> int | None:
    """Where the packets of an MPEG transport stream begin, each with 0x47. None: there are none."""
    head, at = bytes(data[:MAX_JUNK_BYTES]), -1
    while (at := head.find(b"\x47", at + 1)) >= 0:
        for n_bytes in TS_PACKET_BYTES:
            marks = bytes(data[at : at + n_bytes * TS_PACKETS : n_bytes])
            if marks == b"\x47" * TS_PACKETS:
                return at - 4 if n_bytes == 192 and at >= 4 else at
    return None


def ape_tag_bytes(data: memoryview) -> int:
    """The length of the APEv2 tag at the beginning, or 0 if there is none."""
    if bytes(data[:8]) != b"APETAGEX":
        return 0
    return APE_HEADER_BYTES + int.from_bytes(data[12:16], "little")


def id3_tag_bytes(data: memoryview) -> int:
    """The length of the ID3v2 tag at the beginning, or 0 if there is none."""
    if bytes(data[:3]) != b"ID3" or len(data) < 10:
        return 0
    n_bytes = 0
    for byte in data[6:10]:  # four bytes of seven bits
        n_bytes = n_bytes << 7 | byte & 0x7F
    return 10 + n_bytes + (10 if data[5] & 0x10 else 0)
