"""Large uploads through Serve's real proxy: mapped by the router, and cut off over the limit."""

from __future__ import annotations

import io
import os
import socket
import tempfile
import wave
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from ray import serve

from benchmarks.material.recordings import wav_bytes
from clients.http import Client
from clients.ray_handle import Transcriber
from deployments.core.media.decode import decode
from deployments.core.types import StoredUpload, TranscribeOptions
from deployments.request.stored import NotHere
from tests.e2e.conftest import MAX_UPLOAD_MB, SAMPLE, Service
from tests.e2e.test_bad_input import PATH, assert_error
from tests.e2e.test_failures import replicas_of, wait_until

pytestmark = pytest.mark.ray

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
PIECE = bytes(64 * 1024)
N_PIECES = 3200  # 210 MB


@pytest.fixture(scope="module")
def large() -> bytes:
    """The sample meeting as a WAV file of several megabytes."""
    audio = decode(np.fromfile(SAMPLE, np.uint8), channel=None, max_duration_s=600)
    data = wav_bytes(audio)
    assert 4_000_000 < len(data) < MAX_UPLOAD_MB * 1_000_000
    return data


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_mapped_upload_gives_the_transcript_of_its_bytes(
    service: Service, large: bytes, is_streamed: bool
) -> None:
    by_handle = Transcriber(handle=serve.get_deployment_handle("Router", "default"))

    with Client(service.url) as client:
        events = list(client.stream(large)) if is_streamed else []
        text = (
            "".join(e.text for e in events if hasattr(e, "text")) or client.transcribe(large).text
        )

    assert len(text) > 100
    assert text == by_handle.transcribe(large).text


@pytest.mark.parametrize("size_mb", [19, 115])
def test_a_recording_that_no_message_of_grpc_could_hold_is_read(
    service: Service, size_mb: int
) -> None:
    by_handle = Transcriber(handle=serve.get_deployment_handle("Router", "default"))
    audio = decode(np.fromfile(SAMPLE, np.uint8), channel=None, max_duration_s=600)
    stereo = np.repeat(audio, 2 * 48 // 16)  # of 48 kHz
    data = stereo_wav(np.resize(stereo, size_mb * 500_000))

    transcript = by_handle.transcribe(data)

    assert len(data) > size_mb * 1_000_000
    assert transcript.segments[-1].end_ms > size_mb * 4_000
    assert [s.error for s in transcript.segments] == [None] * len(transcript.segments)


def stereo_wav(samples: NDArray[np.int16]) -> bytes:
    """A wav file of 48 kHz and two channels, whose samples take turns."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


ELSEWHERE = StoredUpload("/proc/1/fd/1", "another machine", 1, 1, 1, 1)


def test_a_router_that_cannot_open_the_file_says_so(service: Service) -> None:
    handle = serve.get_deployment_handle("Router", "default")

    answer = handle.transcribe.remote(ELSEWHERE, TranscribeOptions())
    events = handle.options(stream=True).stream.remote(ELSEWHERE, TranscribeOptions())

    with pytest.raises(NotHere):
        answer.result(timeout_s=30)
    with pytest.raises(NotHere):
        next(iter(events))


def test_an_upload_over_the_limit_stops_being_read(service: Service) -> None:
    n_sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal n_sent
        yield HEAD
        for piece in repeat(PIECE, N_PIECES):
            yield piece
            n_sent += len(piece)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = httpx.post(service.url + PATH, content=endless(), headers=headers, timeout=60)

    assert_error(response, 413, "upload_too_large")
    print(f"{n_sent / 1e6:.1f} MB were sent")
    assert n_sent < (MAX_UPLOAD_MB + 32) * 1_000_000  # the sockets' buffers and the proxy's lead


def files_without_a_name(process: psutil.Process) -> set[str]:
    """The files in the temporary directory that the process has open and that have no name."""
    links = set()
    for descriptor in Path(f"/proc/{process.pid}/fd").glob("*"):
        with suppress(OSError):  # closed meanwhile
            links.add(os.readlink(descriptor))
    folder = Path(tempfile.gettempdir())
    return {link for link in links if link.endswith("(deleted)") and Path(link).parent == folder}


def test_nothing_is_left_when_the_ingress_is_killed_during_an_upload(service: Service) -> None:
    uploads: set[str] = set()
    killed: list[int] = []

    def kill_midway() -> Iterator[bytes]:
        [ingress] = replicas_of("Ingress")
        yield HEAD
        yield from repeat(PIECE, 64)
        wait_until(lambda: files_without_a_name(ingress) != set())
        uploads.update(files_without_a_name(ingress))
        ingress.kill()
        killed.append(ingress.wait(30))
        yield PIECE

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = httpx.post(service.url + PATH, content=kill_midway(), headers=headers, timeout=60)

    assert response.status_code >= 500
    assert len(killed) == 1
    still_open = set().union(*map(files_without_a_name, psutil.process_iter()))
    assert len(uploads) == 1
    assert uploads & still_open == set()
    wait_until(lambda: httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200)


def test_a_header_without_an_end_is_cut_off(service: Service) -> None:
    address = urlsplit(service.url)
    n_sent = 0
    with (
        socket.create_connection((address.hostname, address.port), timeout=30) as connection,
        suppress(OSError),
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        for piece in repeat(b"x" * len(PIECE), N_PIECES):
            connection.sendall(piece)
            n_sent += len(piece)

    print(f"{n_sent / 1e6:.1f} MB were sent")
    assert n_sent < 32_000_000
