"""The values that pass between the stages: audio, spans, segments, words and the transcript.

Times are integer milliseconds everywhere inside; seconds appear only where JSON is written.
`tests/invariants.py` checks the invariants of a finished `Transcript` (DESIGN, Times and formats):

- 0 <= start_ms <= end_ms <= duration_ms.
- Segments and words are sorted and do not overlap.
- Where the engine has word times, the text is the words with their marks.
- The transcript of silence is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

Audio: TypeAlias = NDArray[np.int16]  # (n_samples,) int16, mono, 16 kHz
Upload: TypeAlias = NDArray[np.uint8]  # (n_bytes,) the file as the client sent it


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """Where a large upload lies: in a file that another process holds open.

    The other fields tell the right file from one that has the same path on another machine.
    """

    path: str
    machine: str
    device: int
    inode: int
    n_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the recording from `start_ms` (included) to `end_ms` (not included)."""

    start_ms: int
    end_ms: int

    @property
    def n_ms(self) -> int:
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of speech that an engine reads at once. `index` counts from 0 in time order."""

    index: int
    start_ms: int
    end_ms: int

    @property
    def n_ms(self) -> int:
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Word:
    """A Chinese character or a foreign word, its times, and the punctuation mark that follows it.

    `space` says that a space stands before it in running text. The text of a transcript is
    `"".join((" " if w.space else "") + w.text + w.mark for w in words).strip()`.
    """

    text: str
    start_ms: int
    end_ms: int
    mark: str = ""
    space: bool = False


@dataclass(frozen=True, slots=True)
class Cue:
    """A piece of a segment's text with the engine's own approximate times (Whisper's tokens)."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Hints:
    """What a request tells the engine; requests with equal hints may share a batch."""

    language: str | None = None  # ISO 639-1, None = the engine's default
    prompt: str | None = None
    hotwords: tuple[str, ...] = ()
    # False: nobody reads word times, so the engine may leave their computation out. Requests that
    # differ in this alone may share a batch too.
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Recognition:
    """What an engine heard in one segment; all times count from the segment's first sample.

    `words` is empty where the engine has no word times; times are never invented. If the hints are
    not `timed`, the times of words may be 0 and must not be shown. `cues` are for subtitles only.
    If this segment failed, `error` is set and `text` is empty. `unspelt` are the hotwords that the
    engine could not listen for, because it has no tokens for them.
    """

    text: str
    words: tuple[Word, ...] = ()
    cues: tuple[Cue, ...] = ()
    error: str | None = None
    unspelt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine can do and how it runs. `/v1/models` and the log show it."""

    name: str  # the model's id in the catalogue, such as "paraformer-zh"
    device: str  # "cpu" or "cuda"
    dtype: str  # "fp32", "fp16", "bf16" or "int8"
    has_word_times: bool
    punctuates: bool  # True: its text has punctuation, so the punctuation stage is left out
    max_segment_ms: int  # longer speech is cut by plan_segments
    hints: tuple[str, ...] = ()  # the fields of Hints that have an effect


@dataclass(frozen=True, slots=True)
class MarkedWord:
    """A word as the punctuation engine writes it, which capitalises and spaces foreign words."""

    text: str
    mark: str = ""
    space: bool = False


@dataclass(frozen=True, slots=True)
class PunctuationTask:
    """One step in the punctuation of one document.

    `carry` is the unfinished sentence, and `words` have not been read. With `final=False`, words
    that do not fill a piece come back as `pending` in the PunctuationStep.
    """

    words: tuple[str, ...]
    carry: tuple[str, ...] = ()
    final: bool = True


@dataclass(frozen=True, slots=True)
class PunctuationStep:
    """`done` are whole sentences, final. The next step gets `carry`, and `pending` + new words."""

    done: tuple[MarkedWord, ...]
    carry: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A replica's answer to a chunk: one recognition per segment, in order, and the cost."""

    recognitions: tuple[Recognition, ...]
    replica: str
    engine: str
    padded_ms: int  # sum of count x longest over the chunk's batches
    busy_ms: float  # time the owner thread spent on this chunk
    share: float = 1.0  # part of the call that this chunk was; the two costs above are that part
    audio_ms: int = 0  # without padding
    n_out_of_memory: int = 0  # batches that did not fit; counted in the call's first chunk only
    n_batches: int = 1  # of the whole call, which may have held other chunks too


@dataclass(frozen=True, slots=True)
class TranscriptSegment:
    """One segment of the finished transcript, and the replica that made it. Times are absolute."""

    index: int
    start_ms: int
    end_ms: int
    text: str
    words: tuple[Word, ...] = ()
    cues: tuple[Cue, ...] = ()
    pool: str = ""
    replica: str = ""
    engine: str = ""
    busy_ms: float = 0.0
    attempts: int = 1
    error: str | None = None


@dataclass(frozen=True, slots=True)
class HotwordReport:
    """The hotwords of a request, divided into those applied and those not, each in its order."""

    applied: tuple[str, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole answer. Every output format is a view of this one value."""

    text: str
    duration_ms: int
    segments: tuple[TranscriptSegment, ...]
    language: str
    model: str
    has_word_times: bool
    wall_ms: float = 0.0
    warnings: tuple[str, ...] = ()
    itn: bool = False  # spoken numbers are written in digits
    hotwords: HotwordReport | None = None  # None: the request had none

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """The options of a request, which are the same over HTTP and over Ray handles."""

    model: str | None = None  # None = the deployed model
    hints: Hints = field(default_factory=Hints)
    word_times: bool = False  # refuse (BadRequest) where the engine has none
    channel: int | None = None  # None = mix all channels down
    itn: bool = False  # write spoken numbers in digits; no effect if the engine does so itself
    # False: word times are not wanted, which is faster. The transcript then has segments, no words.
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of final text. The deltas of a request, joined, are the transcript's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the recording's speech has been recognised."""

    done_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a stream."""

    transcript: Transcript


StreamEvent: TypeAlias = Delta | Progress | Done
