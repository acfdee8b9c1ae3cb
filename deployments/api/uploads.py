"""The recording of a request: a small one in memory, a large one in the file that received it.

Starlette writes an upload of more than a megabyte to a temporary file without a name, while the
upload arrives. That file is kept open until the request is done, and the router maps it. So the
ingress never holds a large upload in memory.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from starlette.datastructures import UploadFile

from deployments.core.types import StoredUpload, Upload
from deployments.request.fetching import IN_MEMORY_BYTES
from deployments.request.stored import array, stored


class Recording:
    """What a client sent: (n_bytes,) uint8, or an open file. Leaving its block closes the file."""

    def __init__(self, source: Upload | BinaryIO) -> None:
        self._source = source

    @property
    def sent(self) -> Upload | StoredUpload:
        """What a router gets first: the place of the file, or a small upload itself."""
        return self._source if isinstance(self._source, np.ndarray) else stored(self._source)

    @property
    def file(self) -> BinaryIO | None:
        """The open file of a large upload."""
        return None if isinstance(self._source, np.ndarray) else self._source

    @property
    def data(self) -> Upload:
        """The bytes, for a router that cannot open the file. Ray then copies them once."""
        return self._source if isinstance(self._source, np.ndarray) else array(self._source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(self._source, np.ndarray):
            self._source.close()


async def recording(upload: UploadFile) -> Recording:
    """The recording, which stays readable when the form and its files are closed."""
    if (upload.size or 0) <= IN_MEMORY_BYTES:
        return Recording(np.frombuffer(await upload.read(), np.uint8))
    upload.file.flush()
    return Recording(os.fdopen(os.dup(upload.file.fileno()), "rb"))
