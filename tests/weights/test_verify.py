"""The checks on a single file, and the record of a download."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from deployments.weights.sources import WantedFile
from deployments.weights.verify import Recorded, check_file, read_lock, shape_problem
from tests.weights.samples import sha256


def _zip() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(1000))
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.pt", _zip()),
        ("model.pt", b"\x80\x02"),
        ("tokens.json", b'["a"]'),
        ("config.yaml", b"model: X\n"),
        ("am.mvn", b"<AddShift><Rescale>"),
        ("ggml-tiny.bin", b"lmgg...."),
        ("a.wav", b"RIFF...."),
        ("seg_dict", b"anything"),
    ],
)
def test_a_file_of_its_own_kind_passes(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    assert shape_problem(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.pt", _zip()[:-30], "not a torch checkpoint"),  # cut: its directory is gone
        ("model.pt", b"version https://git-lfs.github.com/spec/v1", "not a torch checkpoint"),
        ("tokens.json", b'["a"', "not JSON"),
        ("config.yaml", b"a: [", "not YAML"),
        ("config.yaml", b"<html>", "not a YAML mapping"),
        ("am.mvn", b"<AddShift>", "not a Kaldi CMVN file"),
        ("ggml-tiny.bin", b"<html>", "not a ggml file"),
        ("a.wav", b"ID3", "not a wav file"),
        ("seg_dict", b"", "empty"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)

    assert problem in (shape_problem(tmp_path / name) or "")


@pytest.mark.parametrize(
    ("wanted", "recorded", "how", "good"),
    [
        (WantedFile("x", 3, (sha256(b"abc"),)), None, "pinned hash", True),
        (WantedFile("x", 3, (sha256(b"abd"),)), None, "pinned hash", False),
        (WantedFile("x", 3, ("0" * 64, sha256(b"abc"))), None, "pinned hash", True),
        (WantedFile("x"), Recorded("x", 3, sha256(b"abc")), "recorded hash", True),
        (WantedFile("x"), Recorded("x", 3, sha256(b"abd")), "recorded hash", False),
        (WantedFile("x", 3), None, "size", True),
        (WantedFile("x", 4), None, "size", False),
        (WantedFile("x"), None, "structure", True),
    ],
)
def test_a_file_is_held_to_the_strongest_thing_known(
    tmp_path: Path, wanted: WantedFile, recorded: Recorded | None, how: str, good: bool
) -> None:
    (tmp_path / "x").write_bytes(b"abc")

    check = check_file(tmp_path, wanted, recorded)

    assert check is not None
    assert (check.how, check.problem is None) == (how, good)


def test_a_pin_outranks_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    wanted = WantedFile("x", sha256=(sha256(b"abd"),))

    check = check_file(tmp_path, wanted, Recorded("x", 3, sha256(b"abc")))

    assert check is not None
    assert check.problem is not None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model": "x"', b'{"files": [{}]}', b"[]"])
def test_a_broken_record_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.lock.json").write_bytes(content)

    assert read_lock(tmp_path) is None
