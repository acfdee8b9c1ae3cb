"""Checks a model's files: their hashes, their sizes, and the structure of each kind of file.

The keys inside a checkpoint are not checked here, so torch is not needed. `engines/checkpoint.py`
checks them when it loads the model. At the end of a download, `weights.lock.json` is written beside
the files. It records them and their source.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from deployments.weights.sources import Model, WantedFile

LOCK_NAME = "weights.lock.json"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file as it was at the end of the download."""

    path: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LockFile:
    """The record of a download: its files and their source."""

    model: str
    source: str
    files: tuple[Recorded, ...]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The verdict on one file.

    `how` says what the file was compared with. `problem` is None if the file is good.
    """

    path: str
    how: str
    problem: str | None = None
    n_bytes: int = 0
    sha256: str = ""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _checkpoint(path: Path) -> str | None:
    # torch.save writes a zip archive, which has its directory at the end. So a file that was cut
    # has none. Before torch 1.6 it wrote a pickle, which starts with 0x80.
    with path.open("rb") as file:
        first = file.read(1)
    return None if zipfile.is_zipfile(path) or first == b"\x80" else "is not a torch checkpoint"


def _json(path: Path) -> str | None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"is not JSON: {error}"
    return None


def _yaml(path: Path) -> str | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return f"is not YAML: {error}"
    return None if isinstance(content, dict) else "is not a YAML mapping"


def _cmvn(path: Path) -> str | None:
    text = path.read_text(encoding="utf-8", errors="replace")
    return None if "<AddShift>" in text and "<Rescale>" in text else "is not a Kaldi CMVN file"


def _starts_with(magic: bytes, kind: str) -> Callable[[Path], str | None]:
    def check(path: Path) -> str | None:
        with path.open("rb") as file:
            return None if file.read(len(magic)) == magic else f"is not {kind}"

    return check


_SHAPES: dict[str, Callable[[Path], str | None]] = {
    ".pt": _checkpoint,
    ".json": _json,
    ".yaml": _yaml,
    ".mvn": _cmvn,
    ".bin": _starts_with(b"lmgg", "a ggml file"),
    ".wav": _starts_with(b"RIFF", "a wav file"),
}


def shape_problem(path: Path) -> str | None:
    """Why this file cannot be of the kind that its name says; None if no reason is found."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size == 0:
        return "is empty"
    check = _SHAPES.get(path.suffix)
    return check(path) if check else None


def class_problem(directory: Path, funasr_class: str | None) -> str | None:
    """Why config.yaml does not describe this class of model; None if it does."""
    if funasr_class is None:
        return None
    found = read_funasr_class(directory)
    return None if found == funasr_class else f"says model: {found}, not {funasr_class}"


def read_funasr_class(directory: Path) -> str | None:
    """The `model:` in a directory's config.yaml; None if there is no such line."""
    path = directory / "config.yaml"
    if shape_problem(path):
        return None
    name = yaml.safe_load(path.read_text(encoding="utf-8")).get("model")
    return str(name) if name is not None else None


def check_file(directory: Path, wanted: WantedFile, recorded: Recorded | None) -> FileCheck | None:
    """The verdict on one wanted file; None for an optional file that is not there."""
    path = directory / wanted.path
    if wanted.optional and not path.exists():
        return None
    if shape := shape_problem(path):
        return FileCheck(wanted.path, "structure", shape)
    known = wanted.sha256 or ((recorded.sha256,) if recorded else ())
    n_bytes, sha256 = path.stat().st_size, sha256_of(path)
    how, problem = "structure", None
    if known:
        how = "pinned hash" if wanted.sha256 else "recorded hash"
        if sha256 not in known:
            problem = f"has SHA-256 {sha256}, not {' or '.join(known)}"
    elif wanted.n_bytes is not None:
        how = "size"
        if n_bytes != wanted.n_bytes:
            problem = f"has {n_bytes} bytes, not {wanted.n_bytes}"
    return FileCheck(wanted.path, how, problem, n_bytes, sha256)


def check_model(directory: Path, model: Model, lock: LockFile | None) -> list[FileCheck]:
    """The verdicts on all files of a model. Reads every byte."""
    recorded = {file.path: file for file in lock.files} if lock else {}
    checks = [check_file(directory, file, recorded.get(file.path)) for file in model.files]
    found = [check for check in checks if check is not None]
    wrong_class = class_problem(directory, model.funasr_class)
    return [*found, FileCheck("config.yaml", "model class", wrong_class)] if wrong_class else found


def write_lock(directory: Path, model: Model, source: str, checks: Iterable[FileCheck]) -> None:
    """Records the checked files. This is the last step before they are used."""
    files = tuple(Recorded(check.path, check.n_bytes, check.sha256) for check in checks)
    lock = LockFile(model.name, source, files)
    (directory / LOCK_NAME).write_text(json.dumps(asdict(lock), indent=2), encoding="utf-8")


def read_lock(directory: Path) -> LockFile | None:
    """The record beside the files; None if there is none or it cannot be read."""
    try:
        raw = json.loads((directory / LOCK_NAME).read_text(encoding="utf-8"))
        files = tuple(Recorded(**file) for file in raw["files"])
        return LockFile(raw["model"], raw["source"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_complete(directory: Path, files: Iterable[WantedFile], lock: LockFile | None) -> bool:
    """Whether the record has every wanted file and all sizes still agree. Reads no content."""
    if lock is None:
        return False
    recorded = {file.path: file for file in lock.files}
    missing = [f for f in files if f.path not in recorded and not f.optional]
    repinned = [
        f
        for f in files
        if f.sha256 and f.path in recorded and recorded[f.path].sha256 not in f.sha256
    ]
    return not missing and not repinned and all(_has_size(directory, f) for f in lock.files)


def _has_size(directory: Path, file: Recorded) -> bool:
    path = directory / file.path
    return path.is_file() and path.stat().st_size == file.n_bytes
