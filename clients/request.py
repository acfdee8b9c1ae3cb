"""The recording and the options of a request, the same for every transport."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypedDict

import numpy as np

from deployments.core.errors import BadRequest
from deployments.core.types import Hints, TranscribeOptions, Upload

PIPE_WAIT_S = 5.0  # for the program that writes into a pipe to open it


@dataclass(frozen=True, slots=True)
class Url:
    """Where a recording is, for the service to fetch it: `https://`, and `s3://` for jobs."""

    url: str


# A path, the file's bytes, an open file, or a place from which the service fetches it.
Source: TypeAlias = str | Path | bytes | BinaryIO | Url


class Options(TypedDict, total=False):
    """The keyword arguments that requests and jobs share."""

    language: str | None  # ISO 639-1; None: the deployment's default
    prompt: str | None
    hotwords: Sequence[str]
    model: str | None  # None: the deployed model
    channel: int | None  # from 0; None: all channels mixed
    itn: bool  # True: spoken numbers in digits, 三百零五 as 305


class Asked(Options, total=False):
    """The keyword arguments of `transcribe` and `stream`."""

    word_times: bool  # True: BadRequest if the engine has no word times


def options_from(
    *,
    language: str | None = None,
    prompt: str | None = None,
    hotwords: Sequence[str] = (),
    model: str | None = None,
    word_times: bool = False,
    channel: int | None = None,
    itn: bool = False,
) -> TranscribeOptions:
    """The keyword arguments of `Asked` as the service's own type.

    Raises BadRequest if `hotwords` is one string, because each character would become a hotword.
    Raises it also for a text that a terminal of another encoding has given.
    """
    if isinstance(hotwords, str):
        raise BadRequest("hotwords is a list of texts.", "hotwords")
    for name, text in {"language": language, "prompt": prompt, "model": model}.items():
        _refuse_other_encodings(name, text or "")
    _refuse_other_encodings("hotwords", "".join(hotwords))
    hints = Hints(language=language, prompt=prompt, hotwords=tuple(hotwords))
    return TranscribeOptions(
        model=model, hints=hints, word_times=word_times, channel=channel, itn=itn
    )


def _refuse_other_encodings(name: str, text: str) -> None:
    if cleaned(text) != text:
        raise BadRequest(f"{name} is not UTF-8: {cleaned(text)}", name)


def cleaned(text: str) -> str:
    """The text with U+FFFD for each byte that is not UTF-8.

    Python holds such bytes, as in a file's name in GBK, as characters that cannot be encoded.
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


@contextmanager
def opened(source: Source) -> Iterator[tuple[str, BinaryIO]]:
    """A name for the recording, and a file with it that can be read more than once.

    A file that the caller has opened is read from its beginning and stays open. Raises OSError,
    and BadRequest for a URL, which only the service fetches.
    """
    match source:
        case Url():
            raise BadRequest("Only HTTP and jobs take a URL: send the recording itself.", "url")
        case str() | Path():
            with _file(Path(source)) as file:
                yield cleaned(Path(source).name), file
        case bytes():
            yield "audio", io.BytesIO(source)
        case _:
            yield "audio", source if source.seekable() else io.BytesIO(source.read())


def _file(path: Path) -> BinaryIO:
    """The open file. A pipe is read to its end, because a request may have to be sent again."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        return io.BytesIO(read_pipe(path, wait_s=PIPE_WAIT_S))
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "A device is not a recording", str(path))
    return path.open("rb")


def read_pipe(path: Path, *, wait_s: float) -> bytes:
    """All that other programs write into the pipe. Raises TimeoutError if none begins to."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        head: bytes | None = b""
        if not waiting.poll(wait_s * 1000):
            head = pipe.read(1)  # None: a program has opened the pipe, but has not written yet
            if head == b"":
                raise TimeoutError(errno.ETIMEDOUT, "No program writes into this pipe", str(path))
        os.set_blocking(pipe.fileno(), True)
        return (head or b"") + pipe.read()


def read_upload(source: Source) -> Upload:
    """The recording's bytes as (n_bytes,) uint8. Raises OSError, and BadRequest for a URL."""
    with opened(source) as (_, file):
        file.seek(0)
        return np.frombuffer(file.read(), np.uint8)
