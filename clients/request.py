"""What a caller asks: a recording and options; the same for every transport."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypedDict

import numpy as np

from deployments.core.errors import BadRequest
from deployments.core.types import Hints, TranscribeOptions, Upload

Source: TypeAlias = str | Path | bytes | BinaryIO  # a path, the file's bytes, or an open file


class Asked(TypedDict, total=False):
    """The keywords of `transcribe` and `stream`."""

    language: str | None  # ISO 639-1; None: the deployment's default
    prompt: str | None
    hotwords: Sequence[str]
    model: str | None  # None: the deployed model
    word_times: bool  # True is refused (BadRequest) where the engine has none
    channel: int | None  # from 0; None: all channels mixed
    itn: bool  # True: spoken numbers in digits, 三百零五 as 305


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
    """The keywords of `Asked` as the service's own value.

    Raises BadRequest for hotwords in one string: its characters would be taken for the list.
    """
    if isinstance(hotwords, str):
        raise BadRequest("hotwords is a list of texts.", "hotwords")
    hints = Hints(language=language, prompt=prompt, hotwords=tuple(hotwords))
    return TranscribeOptions(
        model=model, hints=hints, word_times=word_times, channel=channel, itn=itn
    )


@contextmanager
def opened(source: Source) -> Iterator[tuple[str, BinaryIO]]:
    """A name for the recording and a file of it that can be read more than once.

    A file that the caller opened is read from its beginning, and left open. Raises OSError.
    """
    match source:
        case str() | Path():
            with Path(source).open("rb") as file:
                yield Path(source).name, file
        case bytes():
            yield "audio", io.BytesIO(source)
        case _:
            yield "audio", source if source.seekable() else io.BytesIO(source.read())


def read_upload(source: Source) -> Upload:
    """The recording's bytes as (n_bytes,) uint8. Raises OSError."""
    with opened(source) as (_, file):
        file.seek(0)
        return np.frombuffer(file.read(), np.uint8)
