"""Where each frame belongs in the recording, by its time stamp: holes, overlaps, broken clocks.

Packets get lost: on the network, while a microphone is muted, where an encoder sends nothing for
silence. Without silence in their place, every later word would have a time that is too early.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Stamps of MP4 and WebM are rounded, and an encoder's first frame may be early by its warm-up.
TOLERANCE_S = 0.020
# A recorder stamps some frames late although nothing is missing, and the next one is right again.
SMALL_S = 0.100
# Longer holes and overlaps are not believed: the clock was set anew, as when streams are joined.
MAX_HOLE_S = 3600.0
MAX_OVERLAP_S = 1.0
# A few bytes with wrong stamps must not become days: at most an hour of silence in all, and ten
# times the sound. Nor may a clock that stands still remove more than a second and a tenth.
MAX_SILENCE_S = 3600.0
MAX_SILENCE_OF_SOUND = 10.0
MAX_SKIPPED_OF_SOUND = 0.1

CLOCK_WARNING = (
    "The time stamps of the file jump or run backwards, so they are followed only in part."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Silence in front of a frame, and how much of the frame's beginning is left out."""

    silence_s: float = 0.0
    skip_s: float = 0.0


@dataclass(slots=True)
class Timeline:
    """Places frames one after the other. `start_s` is the stamp at which the recording begins.

    With `start_s` None the recording begins with the first stamp.
    """

    start_s: float | None = None
    end_s: float = 0.0  # of the recording so far
    is_broken: bool = False  # some stamp was not believed
    _sound_s: float = field(default=0.0, init=False)
    _was_late: bool = field(default=False, init=False)
    _skipped_s: float = field(default=0.0, init=False)

    def place(self, stamp_s: float | None, duration_s: float) -> Place:
        """Where the next frame goes. Without a stamp it goes right behind the last one."""
        place = self._placed(stamp_s, duration_s)
        kept_s = duration_s - place.skip_s
        self.end_s += place.silence_s + kept_s
        self._sound_s += kept_s
        self._skipped_s += place.skip_s
        return place

    def _placed(self, stamp_s: float | None, duration_s: float) -> Place:
        if stamp_s is None:
            return Place()
        if self.start_s is None:
            self.start_s = stamp_s - self.end_s
        late_s = stamp_s - self.start_s - self.end_s
        was_late, self._was_late = self._was_late, late_s > TOLERANCE_S
        if not self._is_believed(late_s):
            self.start_s, self.is_broken = stamp_s - self.end_s, True
            return Place()
        if late_s < -TOLERANCE_S:
            return Place(skip_s=min(-late_s, duration_s))
        if late_s > TOLERANCE_S and (late_s > SMALL_S or was_late or not self._sound_s):
            return Place(silence_s=late_s)
        return Place()

    def _is_believed(self, late_s: float) -> bool:
        if late_s > TOLERANCE_S:
            silence_s = self.end_s - self._sound_s + late_s
            most_s = MAX_SILENCE_S + MAX_SILENCE_OF_SOUND * self._sound_s
            return late_s <= MAX_HOLE_S and silence_s <= most_s
        most_s = MAX_OVERLAP_S + MAX_SKIPPED_OF_SOUND * self._sound_s
        return -late_s <= MAX_OVERLAP_S and self._skipped_s - late_s <= most_s
