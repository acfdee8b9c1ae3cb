"""The files that the command line writes, or cannot write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from clients.outputs import Job, prepare, write
from tests.clients.fakes import FakeRouter

GBK = os.fsdecode("录音".encode("gbk") + b".wav")  # as Python gives it in sys.argv

Run = Callable[..., Result]


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder_in_the_way(path: Path) -> None:
    (path / "a.txt").mkdir(parents=True)


def a_link_in_the_way(path: Path) -> None:
    path.mkdir()
    (path / "a.txt").symlink_to("nowhere")


@pytest.mark.parametrize("make", [a_file, a_folder_in_the_way, a_link_in_the_way])
def test_an_output_that_cannot_be_written_is_known_before_anything_is_sent(
    transcribe: Run, router: FakeRouter, make: Callable[[Path], None]
) -> None:
    make(Path("out"))

    result = transcribe("a.wav", "-o", "out")

    assert result.exit_code == 1
    assert result.stderr.startswith("a.wav: ")
    assert router.seen == []


def test_one_output_that_cannot_be_written_costs_only_itself(transcribe: Run) -> None:
    Path("out/a.txt").mkdir(parents=True)

    result = transcribe("a.wav", "z.wav", "-o", "out", "--force")

    assert result.exit_code == 1
    assert Path("out/z.txt").is_file()


@pytest.mark.parametrize(
    "names",
    [("a.wav", "./a.wav"), ("a.wav", "a.mp3"), (GBK, f"other/{GBK}"), ("-", "stdin.wav")],
)
def test_outputs_that_collide_are_refused_before_anything_is_sent(
    transcribe: Run, router: FakeRouter, names: tuple[str, ...]
) -> None:
    result = transcribe(*names, "-o", "out")

    assert result.exit_code == 2
    assert "would both write" in " ".join(result.stderr.split())
    assert router.seen == []


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    output = tmp_path / "a.txt"
    output.symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left"):
        write(Job("a.wav", output), "今天", force=True)

    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_no_text_writes_nothing(tmp_path: Path) -> None:
    job = Job("a.wav", tmp_path / "a.txt")
    prepare(job, force=False)

    with pytest.raises(ValueError, match="surrogates not allowed"):
        write(job, "今\ud800天", force=False)

    assert list(tmp_path.iterdir()) == []
