"""A folder of recordings: which there are, where their transcripts go, and what is done."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from clients.request import Asked, cleaned

# Names of what the service reads. A file of another name is not sent; one of a wrong name fails.
SOUND = (".wav", ".flac", ".mp3", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".amr", ".mka")
VIDEO = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ts", ".mts", ".m2ts")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of the folder, and the file of its transcript."""

    path: Path
    shown: str  # its path in the folder, for messages
    output: Path

    @property
    def is_done(self) -> bool:
        """Whether the transcript is there and no older than the recording."""
        try:
            return self.output.stat().st_mtime_ns >= self.path.stat().st_mtime_ns
        except OSError:  # there is none, or the recording's own error will be told
            return False


def recordings(folder: Path, output_dir: Path, extension: str) -> list[Recording]:
    """Every recording below the folder, in the order of their paths. Raises OSError.

    The transcripts lie in `output_dir` as the recordings lie in the folder. `a.mp3` has `a.txt`;
    beside an `a.wav` it has `a.mp3.txt`. Names that begin with a dot are passed over.
    """
    found = sorted(_below(folder), key=lambda path: path.parts)
    n_same = Counter(path.with_suffix("") for path in found)
    return [
        Recording(folder / path, cleaned(str(path)), output_dir / _named(path, n_same, extension))
        for path in found
    ]


def _below(folder: Path) -> list[Path]:
    """The paths of recordings, relative to the folder."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(root) / name).relative_to(folder)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SOUND + VIDEO
        ]
    return found


def _named(path: Path, n_same: Counter[Path], extension: str) -> Path:
    stem = path.with_suffix("")
    return Path(f"{path if n_same[stem] > 1 else stem}.{extension}")


def key_of(recording: Recording, asked: Asked) -> str:
    """The Idempotency-Key of the recording's job: one for its path, size, time and the options.

    So a command that was interrupted finds the job that it has submitted. Raises OSError.
    """
    about = recording.path.stat()
    path = os.fsencode(recording.path.resolve())
    options = repr(sorted(asked.items())).encode("utf-8", "backslashreplace")
    return _key(path, str(about.st_size).encode(), str(about.st_mtime_ns).encode(), options)


def another_key(key: str, reason: str) -> str:
    """The key after this one, where the job of this one is of no use."""
    return _key(key.encode(), reason.encode())


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
