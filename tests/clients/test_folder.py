"""Which recordings a folder has, where their transcripts go, and which are done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clients.folder import Recording, another_key, key_of, recordings
from clients.outputs import write_whole
from clients.request import Asked

OUT = Path("out")


def put(folder: Path, *names: str) -> Path:
    """The folder, with files of these names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return folder


def outputs(folder: Path) -> list[str]:
    return [str(one.output) for one in recordings(folder, OUT, "srt")]


def test_transcripts_lie_as_the_recordings_lie_and_in_a_stable_order(tmp_path: Path) -> None:
    folder = put(tmp_path, "b.wav", "sub/c.MP3", "a/x/y.flac", "a.m4a")

    found = recordings(folder, OUT, "srt")

    assert [one.shown for one in found] == ["a/x/y.flac", "a.m4a", "b.wav", "sub/c.MP3"]
    assert outputs(folder) == ["out/a/x/y.srt", "out/a.srt", "out/b.srt", "out/sub/c.srt"]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    folder = put(tmp_path, "a.txt", "a.srt", "noise", ".b.wav", ".git/c.wav", "d.wav")

    assert outputs(folder) == ["out/d.srt"]


def test_recordings_of_one_name_have_transcripts_of_two(tmp_path: Path) -> None:
    folder = put(tmp_path, "a.wav", "a.mp3", "b/a.wav")

    assert outputs(folder) == ["out/a.mp3.srt", "out/a.wav.srt", "out/b/a.srt"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        recordings(tmp_path / "none", OUT, "srt")


@pytest.mark.parametrize(
    ("written_ns", "is_done"), [(1_000, True), (2_000, True), (999, False), (None, False)]
)
def test_a_transcript_is_done_unless_its_recording_is_newer(
    tmp_path: Path, written_ns: int | None, is_done: bool
) -> None:
    recording = Recording(tmp_path / "a.wav", "a.wav", tmp_path / "a.txt")
    recording.path.write_bytes(b"12345")
    os.utime(recording.path, ns=(1_000, 1_000))
    names = [recording.output] * (written_ns is not None)
    [name.write_text("text") for name in names]
    [os.utime(name, ns=(0, written_ns or 0)) for name in names]

    assert recording.is_done is is_done


def test_a_key_is_that_of_the_path_the_size_the_time_and_the_options(tmp_path: Path) -> None:
    def key(name: str = "a.wav", *, content: bytes = b"1", at_ns: int = 5, **asked: object) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, ns=(at_ns, at_ns))
        options = Asked(itn=False) | asked  # type: ignore[operator]
        return key_of(Recording(path, name, OUT), options)

    keys = [key(), key("b.wav"), key(content=b"12"), key(at_ns=6), key(itn=True)]

    assert len(set(keys)) == 5
    assert key() == keys[0]
    assert another_key(keys[0], "job_1") == another_key(keys[0], "job_1") != keys[0]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    write_whole(path, "一")
    write_whole(path, "二")

    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    path.with_name("b.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(path.with_name("b.txt"), "text")

    assert path.read_text("utf-8") == "二"
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.txt", "b.txt"]
