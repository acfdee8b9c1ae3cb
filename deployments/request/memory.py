"""How much audio the requests of a router hold in memory. A request beyond the bound is refused.

A few kilobytes can hold an hour of sound, so the size of the upload says little. The audio is
counted while it is decoded, a minute at a time, before it takes memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.core.errors import Overloaded

RETRY_S = 15.0  # some recording has ended by then, on a router that is this busy


class AudioMemory:
    """Seconds of audio in memory, of all requests together. Any thread may ask."""

    def __init__(self, max_audio_s: float) -> None:
        self.held_s = 0.0
        self._max_audio_s = max_audio_s
        self._lock = threading.Lock()

    @contextmanager
    def request(self) -> Iterator[Held]:
        """The part of one request, which is given back at the end."""
        held = Held(self)
        try:
            yield held
        finally:
            with self._lock:
                self.held_s -= held.audio_s
                held.audio_s, held.is_over = 0.0, True

    def take(self, held: Held, audio_s: float) -> None:
        with self._lock:
            if held.is_over or self.held_s + audio_s > self._max_audio_s:
                raise Overloaded(RETRY_S)
            self.held_s += audio_s
            held.audio_s += audio_s


class Held:
    """What one request holds."""

    def __init__(self, memory: AudioMemory) -> None:
        self.audio_s = 0.0
        self.is_over = False
        self._memory = memory

    def admit(self, audio_s: float) -> None:
        """Raises Overloaded if this router holds too much, or if the request is over."""
        self._memory.take(self, audio_s)
