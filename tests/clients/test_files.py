"""Files that cannot be read or written, and names in other encodings: each costs only itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import Result

from clients.http import Client
from clients.options import progress_on
from clients.outputs import Job
from clients.request import cleaned, opened, options_from, read_pipe
from deployments.core.errors import AsrError, BadRequest
from tests.clients.fakes import FakeRouter
from tests.clients.servers import FINE, answering
from tests.clients.test_attempts import done
from tests.core.transcripts import PARAFORMER

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "clients", "transcribe")
GBK = os.fsdecode("录音".encode("gbk") + b".wav")  # as Python gives it in sys.argv
LATIN = os.fsdecode("café.wav".encode("latin-1"))
SHIFT_JIS = os.fsdecode("会議.wav".encode("shift-jis"))
CUT = os.fsdecode("录音".encode()[:-1] + b".wav")
FOREIGN = [GBK, LATIN, SHIFT_JIS, CUT]

Run = Callable[..., Result]


def is_only_failure(result: Result, name: str) -> bool:
    """Whether a.wav and z.wav were transcribed, and the file between them named in one line."""
    failed = [line for line in result.stderr.splitlines() if "1 of 3 segments" not in line]
    return (
        result.exit_code == 1
        and isinstance(result.exception, SystemExit)
        and result.stdout == f"{PARAFORMER.text}\n" * 2
        and len(failed) == 1
        and failed[0].startswith(f"{name}: ")
    )


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_in_another_encoding_is_transcribed_like_any_other(
    transcribe: Run, name: str
) -> None:
    Path(name).write_bytes(b"123")

    result = transcribe("a.wav", name, "z.wav")

    assert (result.exit_code, result.stdout) == (0, f"{PARAFORMER.text}\n" * 3)
    assert "\ufffd" in result.stderr  # in the name before the transcript's warning


@pytest.mark.parametrize("name", FOREIGN)
def test_the_transcript_of_such_a_file_has_its_very_name(transcribe: Run, name: str) -> None:
    Path(name).write_bytes(b"123")

    result = transcribe("a.wav", name, "z.wav", "-o", "out")

    assert result.exit_code == 0
    assert (Path("out") / name).with_suffix(".txt").is_file()


@pytest.mark.parametrize("name", FOREIGN)
def test_the_name_is_sent_cleaned(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"123")

    with answering(FINE) as server, Client(server.url) as client:
        client.transcribe(tmp_path / name)

    assert f'filename="{cleaned(name)}"'.encode() in server.bodies[0]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_missing_file_with_such_a_name_is_named_cleaned(transcribe: Run, name: str) -> None:
    assert is_only_failure(transcribe("a.wav", name, "z.wav"), cleaned(name))


def test_a_bar_shows_such_a_name() -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    with progress_on(Console(file=screen, force_terminal=True, width=80)) as progress:
        progress.add_task(Job(GBK, None).shown, total=None)
        progress.refresh()
    screen.flush()

    assert cleaned(GBK) in screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FOREIGN)
def test_such_a_text_is_refused_as_an_option(name: str) -> None:
    with pytest.raises(BadRequest, match="hotwords is not UTF-8"):
        options_from(hotwords=("达摩院", name))
    with pytest.raises(BadRequest, match="prompt is not UTF-8"):
        options_from(prompt=name)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # opens, and fails when it is read


def make_empty(path: Path) -> None:
    path.write_bytes(b"fail 2 0")  # the service's error for an empty file


@pytest.mark.parametrize(
    "make",
    [make_folder, make_loop, make_dangling, make_device, make_unreadable, make_empty],
)
def test_a_file_that_cannot_be_read_costs_only_itself(
    transcribe: Run, make: Callable[[Path], None]
) -> None:
    make(Path("bad.wav"))

    assert is_only_failure(transcribe("a.wav", "bad.wav", "z.wav"), "bad.wav")


def test_an_empty_name_costs_only_itself(transcribe: Run) -> None:
    assert is_only_failure(transcribe("a.wav", "", "z.wav"), "")


def test_a_name_that_is_too_long_costs_only_itself(transcribe: Run) -> None:
    name = "a" * 300 + ".wav"

    assert is_only_failure(transcribe("a.wav", name, "z.wav"), name)


def test_a_file_that_is_deleted_meanwhile_costs_only_itself(
    transcribe: Run, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bad.wav").write_bytes(b"123")
    stream = router.stream

    def deleting(*arguments: object) -> Iterator[object]:
        Path("bad.wav").unlink(missing_ok=True)
        return stream(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(router, "stream", deleting)

    assert is_only_failure(transcribe("a.wav", "bad.wav", "z.wav", "--jobs", "1"), "bad.wav")


class Shrinking(io.BytesIO):
    """A file that was cut after its length had been asked for."""

    def read(self, size: int | None = -1) -> bytes:
        self.truncate(3)
        return super().read(size)


class Growing(io.BytesIO):
    """A file that is still being written."""

    def __init__(self) -> None:
        super().__init__(b"12345")
        self._n = 0

    def read(self, size: int | None = -1) -> bytes:
        self._n += 1
        return super().read(size) or (b"more" if self._n < 9 else b"")


@pytest.mark.parametrize("file", [Shrinking(b"12345"), Growing()])
def test_a_file_that_changes_while_it_is_sent_says_so(file: io.BytesIO) -> None:
    with (
        answering(FINE) as server,
        Client(server.url) as client,
        pytest.raises(AsrError, match="The recording changed while it was sent"),
    ):
        client.transcribe(file)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    return path


def test_a_pipe_is_read_to_its_end(pipe: Path) -> None:
    writer = threading.Thread(target=pipe.write_bytes, args=(b"12345" * 50_000,))
    writer.start()

    with opened(pipe) as (name, file):
        content = file.read()
    writer.join()

    assert (name, content) == ("pipe.wav", b"12345" * 50_000)


def test_a_pipe_whose_program_is_slow_is_waited_for(pipe: Path) -> None:
    holder = os.open(pipe, os.O_RDWR)  # a program that has opened the pipe, and writes later
    late = threading.Timer(0.3, lambda: (os.write(holder, b"12345"), os.close(holder)))
    late.start()

    assert read_pipe(pipe, wait_s=0.05) == b"12345"


def test_a_pipe_into_which_no_program_writes_is_given_up(pipe: Path) -> None:
    with pytest.raises(TimeoutError, match="No program writes into this pipe"):
        read_pipe(pipe, wait_s=0.05)


@pytest.mark.slow
def test_such_a_pipe_costs_only_itself(transcribe: Run) -> None:
    os.mkfifo("bad.wav")

    assert is_only_failure(transcribe("a.wav", "bad.wav", "z.wav"), "bad.wav")


def on_command_line(
    *arguments: str | bytes, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """`python -m clients transcribe` in a process of its own, with a service that answers."""
    answer = (200, {"Content-Type": "text/event-stream"}, done())
    with answering(answer) as server:
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirect}', "sh", *COMMAND, "--url", server.url, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
        )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "shift-jis"])
def test_a_terminal_without_chinese_gets_advice_and_no_traceback(
    tmp_path: Path, encoding: str
) -> None:
    names = [str(tmp_path / name) for name in ("a.wav", "z.wav")]
    Path(names[0]).write_bytes(b"123")
    Path(names[1]).write_bytes(b"123")

    ended = on_command_line(*names, PYTHONIOENCODING=encoding)

    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    assert ended.stderr.count(b"PYTHONIOENCODING=utf-8") == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [GBK, LATIN])
def test_the_command_line_takes_the_bytes_of_such_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"123")

    ended = on_command_line(os.fsencode(tmp_path / name))

    assert (ended.returncode, ended.stdout.decode()) == (0, PARAFORMER.text + "\n")


@pytest.mark.slow
def test_standard_input_that_is_closed_costs_only_itself() -> None:
    ended = on_command_line("-", redirect="<&-")

    assert (ended.returncode, ended.stderr) == (1, b"-: Standard input is closed.\n")
