"""Reads the parts of a multipart request: the recording as a file, all other fields as text.

Starlette takes a part for a file if its header has a file name. Real clients leave the name of a
recording out, write it as `filename*=` only, and send texts as files. So here the field's name
decides. Fields that nothing will read are dropped as they arrive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

MAX_TEXT_BYTES = 1_000_000  # of all text fields together
# What Starlette is shown in place of the headers of a part, which it would read in its own way.
FILE = b'form-data; name="file"; filename="recording"'
TEXT = b'form-data; name="text"'


def base(name: str) -> str:
    """The name of the field without the brackets of a list or an object: `a[]`, `a[0]`, `a[b]`."""
    return name.split("[", 1)[0] if name.endswith("]") else name


class Parts(MultiPartParser):
    """Starlette's parser, where `file` is a file and every other field is text."""

    def __init__(
        self,
        headers: Headers,
        stream: AsyncGenerator[bytes, None],
        *,
        is_read: Callable[[str], bool],
    ) -> None:
        """`is_read` says by its name whether the value of a text field is kept."""
        super().__init__(headers, stream, max_files=1, max_part_size=MAX_TEXT_BYTES)
        self._is_read = is_read
        self._n_text_bytes = 0

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        raw = options.get(b"name")
        if raw is None:
            raise MultiPartException("A part has no name.")
        part.content_disposition = FILE if raw == b"file" else TEXT
        super().on_headers_finished()
        part.field_name = raw.decode("utf-8", "backslashreplace")
        if part.file is not None:
            part.file.filename = _file_name(options)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            if not self._is_read(self._current_part.field_name):
                return
            self._n_text_bytes += end - start
            if self._n_text_bytes > MAX_TEXT_BYTES:
                raise MultiPartException(f"The texts have more than {MAX_TEXT_BYTES} bytes.")
        super().on_part_data(data, start, end)


def _file_name(options: dict[bytes, bytes]) -> str:
    """The name that the header gives, as plain text or in the form of RFC 5987; may be empty."""
    name = options.get(b"filename", b"")
    if coded := options.get(b"filename*"):
        name = unquote_to_bytes(coded.rpartition(b"'")[2])
    return name.decode("utf-8", "replace")
