"""The staging directory of a download, and the rename that turns it into a model's directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deployments.weights.settings import Limits
from deployments.weights.sources import DiskFull, Model, SourceFailed
from deployments.weights.verify import LOCK_NAME, FileCheck


def check_room(model: Model, staging: Path, limits: Limits) -> None:
    """Raises DiskFull if the files whose sizes are known do not fit on the disk."""
    have_bytes = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    need_bytes = model.n_bytes - have_bytes
    free_bytes = limits.free_bytes(staging)
    if free_bytes < need_bytes:
        raise DiskFull(
            f"the disk of {staging} has {free_bytes / 1e6:.0f} MB free, "
            f"{need_bytes / 1e6:.0f} MB are needed"
        )


def refuse_bad(checks: list[FileCheck], staging: Path) -> None:
    """Removes the files that failed their check, and raises SourceFailed if there are any."""
    bad = [check for check in checks if check.problem]
    for check in bad:
        (staging / check.path).unlink(missing_ok=True)
    if bad:
        raise SourceFailed("; ".join(f"{check.path} {check.problem}" for check in bad))


def publish(staging: Path, directory: Path, paths: set[str]) -> None:
    """Turns the checked files and their record into the model's directory, by one rename."""
    keep = {*paths, LOCK_NAME}
    for path in [path for path in staging.rglob("*") if path.is_file()]:
        if path.relative_to(staging).as_posix() in keep:
            _flush(path)
        else:
            path.unlink()  # left by an earlier run that was killed
    remove_empty(staging)
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.exists():
        shutil.rmtree(directory)  # our own, damaged; `store` adopts or refuses any other
    staging.replace(directory)


def _flush(path: Path) -> None:
    """Writes the file to the disk, or a power failure could leave a record beside empty files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_empty(directory: Path) -> None:
    """Removes the empty directories below `directory`, and `directory` itself if it is empty."""
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if not any(directory.iterdir()):
        directory.rmdir()
