"""Bounds on the work that a file may cost: what is read of it, and its packets."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.packet import Packet

from deployments.core.errors import InvalidAudio
from deployments.core.media.containers import Container
from deployments.core.media.lengths import MAX_TAIL_BYTES

# Packets that cannot be decoded are skipped. A file with more than this share is damaged.
MAX_BAD_PACKETS_SHARE = 0.05
MIN_BAD_PACKETS = 200  # before a file is given up early, where they are most of it
# A file whose parts point back at each other would be read for ever.
MAX_READS_OF_A_BYTE = 16
READ_SLACK_BYTES = 4_000_000
MAX_PACKETS_OF_A_BYTE = 2
PACKET_SLACK_BYTES = 1024


class Bytes:
    """The upload as a file object for PyAV. Unlike BytesIO it does not copy the upload."""

    def __init__(self, data: memoryview, stop: threading.Event | None) -> None:
        self._data, self._at, self._stop = data, 0, stop
        self._left = MAX_READS_OF_A_BYTE * len(data) + READ_SLACK_BYTES

    def read(self, n_bytes: int) -> bytes:
        check_stop(self._stop)
        chunk = bytes(self._data[self._at : self._at + n_bytes])
        self._at += len(chunk)
        self._left -= len(chunk)
        if self._left < 0:
            raise InvalidAudio("The file is damaged: its parts point back at each other.")
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self._at, len(self._data))[whence]
        self._at = min(max(start + offset, 0), len(self._data))
        return self._at

    def tell(self) -> int:
        return self._at


def check_stop(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise InvalidAudio("The decoding was stopped.")


@dataclass(slots=True)
class Packets:
    """Counts packets: a damaged file is more than a few bad packets or a tag at the end."""

    kind: Container
    n_file_bytes: int
    n: int = 0
    n_bytes: int = 0
    n_bad: int = 0
    n_last_bad: int = 0  # since the last good one
    last_bad_bytes: int = 0

    def count(self, packet: Packet[AudioStream]) -> None:
        """Raises InvalidAudio if the packets have more bytes than the file."""
        self.n += 1
        self.n_bytes += packet.size
        if self.n_bytes > MAX_PACKETS_OF_A_BYTE * self.n_file_bytes + PACKET_SLACK_BYTES:
            raise InvalidAudio("The file is damaged: its parts point back at each other.")

    def bad(self, packet: Packet[AudioStream]) -> None:
        """Raises InvalidAudio if most packets so far are bad."""
        self.n_bad += 1
        self.n_last_bad += 1
        self.last_bad_bytes += packet.size
        if self.n_bad >= MIN_BAD_PACKETS and 2 * self.n_bad > self.n:
            raise self._damaged(self.n_bad)

    def good(self) -> None:
        self.n_last_bad = self.last_bad_bytes = 0

    def finish(self) -> None:
        """Raises InvalidAudio if too many are bad."""
        n_bad = self.n_bad
        if self.n_last_bad < self.n and self.last_bad_bytes <= MAX_TAIL_BYTES:
            n_bad -= self.n_last_bad
        if n_bad > MAX_BAD_PACKETS_SHARE * self.n:
            raise self._damaged(n_bad)

    def _damaged(self, n_bad: int) -> InvalidAudio:
        return InvalidAudio(
            f"The {self.kind.name} file is damaged: {n_bad} of its {self.n} packets cannot be read."
        )
