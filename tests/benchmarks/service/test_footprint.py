"""The names of processes, and the temporary files that are left."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
import pytest

from benchmarks.service.footprint import Watch, larger, part_of, temporary_files


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("ray::ServeReplica:default:Router", "router"),
        ("ray::ServeReplica:default:Asr-cpu", "asr"),
        ("ray::ServeReplica:default:Vad.handle_request", "vad"),
        ("ray::ServeController.listen_for_change", "serve_controller"),
        ("ray::ProxyActor", "serve_proxy"),
        ("/opt/ray/core/src/ray/raylet/raylet --raylet_socket_name=x", "raylet"),
        ("ray::IDLE", None),
        ("python -m pytest", None),
        ("", None),
    ],
)
def test_a_process_is_known_by_its_title(title: str, part: str | None) -> None:
    assert part_of(title) == part


def test_the_larger_of_two_samples_is_kept_for_each_part() -> None:
    assert larger({"vad": 5.0, "asr": 1.0}, {"vad": 2.0, "router": 3.0}) == {
        "asr": 1.0,
        "router": 3.0,
        "vad": 5.0,
    }


def test_named_and_deleted_but_open_files_are_both_found(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "upload.wav").write_bytes(b"RIFF")
    with tempfile.TemporaryFile(dir=tmp_path):
        found = temporary_files(tmp_path, [psutil.Process()])

    assert len(found) == 2
    assert temporary_files(tmp_path, [psutil.Process()]) == [f"{tmp_path}/spool/upload.wav"]


def test_a_watch_remembers_the_most_files_it_saw(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    with tempfile.TemporaryFile(dir=tmp_path):
        watch.look([psutil.Process()])
    watch.look([psutil.Process()])

    assert watch.most_files == 1
    assert watch.n_samples == 2
