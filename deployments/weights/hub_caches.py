"""Finds models that ModelScope's and Hugging Face's own tools have downloaded before.

A user who ran FunASR before has the files already. They are checked as a download is, and linked
into our cache, or copied to it from another disk. The layouts are those of several releases of
modelscope, and of huggingface_hub.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from deployments.weights.settings import HubCaches
from deployments.weights.sources import HuggingFace, Model, ModelScope, Source, WantedFile
from deployments.weights.verify import FileCheck, check_file, class_problem

# Below MODELSCOPE_CACHE or its default. Newer releases have `models`; older ones read the variable
# as the directory that now is `hub`.
_MODELSCOPE_FOLDERS = ("hub/models", "hub", "models", "")


def directories(source: Source, caches: HubCaches) -> list[Path]:
    """The directories that hold files of this repository. Most often there is none."""
    match source:
        case ModelScope(repo=repo):
            owner, _, name = repo.partition("/")
            # modelscope replaces dots, which Python's imports would take for a package.
            names = dict.fromkeys((name.replace(".", "___"), name))
            found = [
                caches.modelscope / folder / owner / name
                for folder in _MODELSCOPE_FOLDERS
                for name in names
            ]
        case HuggingFace(repo=repo, revision=revision):
            repo_dir = caches.hugging_face / f"models--{repo.replace('/', '--')}"
            found = [repo_dir / "snapshots" / _commit(repo_dir, revision)]
        case _:
            found = []
    return [path for path in found if path.is_dir()]


def _commit(repo_dir: Path, revision: str) -> str:
    """The commit that a branch or tag was at when it was downloaded; else the revision itself."""
    try:
        return (repo_dir / "refs" / revision).read_text("utf-8").strip() or revision
    except (OSError, ValueError):
        return revision


def seems_present(model: Model, caches: HubCaches) -> bool:
    """Whether a cache has all files of the model in their sizes. Reads no content."""
    return any(
        all(_has_size(path, file) for file in model.files)
        for source in model.sources
        for path in directories(source, caches)
    )


def _has_size(directory: Path, wanted: WantedFile) -> bool:
    path = directory / wanted.path
    if not path.is_file():
        return wanted.optional
    # A path with several good hashes has several good sizes, and only one is known.
    return len(wanted.sha256) > 1 or wanted.n_bytes in (None, path.stat().st_size)


def take(model: Model, directory: Path, staging: Path) -> list[FileCheck]:
    """Puts the model's files of a hub's cache into `staging`.

    Returns the verdicts if the model is whole. Else returns nothing, and puts only those files
    there whose pinned hash is right, so that they need no download.
    """
    checks = [check_file(directory, file, None) for file in model.files]
    found = [check for check in checks if check is not None]
    whole = not any(check.problem for check in found) and not class_problem(
        directory, model.funasr_class
    )
    pinned = {file.path for file in model.files if file.sha256}
    _link(
        [c.path for c in found if not c.problem and (whole or c.path in pinned)], directory, staging
    )
    return found if whole else []


def _link(paths: Sequence[str], directory: Path, staging: Path) -> None:
    for path in paths:
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        content = (directory / path).resolve()  # Hugging Face's cache holds symbolic links
        try:
            os.link(content, target)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(content, target)
