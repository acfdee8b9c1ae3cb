"""The shape of the source: who imports what, and how long a file may be.

The direction of imports between our own modules is in pyproject.toml (import-linter); here is what
its contracts cannot say.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("deployments", "cluster", "clients")
MAX_LINES = 300
MAX_FILES = 16

WEB = ("ray", "starlette", "httpx")
MODELS = ("torch", "funasr", "onnxruntime")
GENERATOR = "benchmarks.material.random_models"
GPU_BENCHMARK = "benchmarks.gpu.engines"
FAKES = "deployments.engines.fake"


def sources(*packages: str) -> list[Path]:
    """Every Python file of the packages, relative to the repository's root."""
    return sorted(
        path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py")
    )


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def imported_names(path: Path) -> Iterator[str]:
    """The full names that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module


def foreign_packages(path: Path) -> set[str]:
    """What a file imports that is neither ours nor the standard library's."""
    top = {name.split(".")[0] for name in imported_names(path)}
    return top - set(sys.stdlib_module_names) - set(PACKAGES) - {"benchmarks"}


def importing(
    modules: Sequence[str], *, blocked: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that imports the modules where there are no blocked ones."""
    program = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({tuple(blocked)!r}))\n"
        f"for name in {tuple(modules)!r}: importlib.import_module(name)"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ([dotted(path) for path in sources("deployments/engines")], WEB),
        ([GENERATOR], WEB),
        ([GPU_BENCHMARK], ("ray", "starlette")),
        ([FAKES], (*WEB, *MODELS)),
    ],
    ids=["engines", "the generator of random models", "the GPU's benchmark", "fakes"],
)
@pytest.mark.slow
def test_it_is_imported_quietly_where_there_is_no(
    modules: list[str], blocked: tuple[str, ...]
) -> None:
    done = importing(modules, blocked=blocked)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_blocked_module_cannot_be_imported() -> None:
    done = importing(["ray"], blocked=["ray"])

    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("path", sources("deployments/core"), ids=str)
def test_core_needs_the_standard_library_and_numpy_only(path: Path) -> None:
    decodes = path.name in ("announced.py", "decode.py", "guards.py", "mixing.py")

    assert foreign_packages(path) <= ({"numpy", "av"} if decodes else {"numpy"})


def test_only_the_gpus_module_knows_nvml() -> None:
    importers = {str(path) for path in sources(*PACKAGES) if "pynvml" in foreign_packages(path)}

    assert importers <= {"cluster/gpus.py"}


def test_core_does_not_import_the_scheduler() -> None:
    others = [path for path in sources("deployments/core") if "scheduler" not in path.parts]
    below = "deployments.core.scheduler"

    assert [str(p) for p in others if any(n.startswith(below) for n in imported_names(p))] == []


@pytest.mark.parametrize("path", sources("deployments/engines"), ids=str)
def test_no_family_of_engines_imports_another(path: Path) -> None:
    """A contract would have to list the families; this covers a new room by itself."""
    families = {room.name for room in (ROOT / "deployments" / "engines").iterdir() if room.is_dir()}
    prefix = "deployments.engines."
    named = {n.removeprefix(prefix).split(".")[0] for n in imported_names(path) if prefix in n}

    assert named & families <= {path.parent.name}


def test_only_the_app_binds_deployments() -> None:
    binders = {str(p) for p in sources(*PACKAGES) if ".bind(" in (ROOT / p).read_text("utf-8")}

    assert binders == {"deployments/app.py"}


@pytest.mark.parametrize("path", sources(*PACKAGES, "benchmarks", "tests"), ids=str)
def test_a_file_fits_in_the_head(path: Path) -> None:
    n_lines = len((ROOT / path).read_text("utf-8").splitlines())

    assert n_lines <= MAX_LINES, "split it by subject"


@pytest.mark.parametrize("path", sources(*PACKAGES, "benchmarks"), ids=str)
def test_the_first_line_is_the_caption_of_the_file(path: Path) -> None:
    caption = ast.get_docstring(ast.parse((ROOT / path).read_text("utf-8"))) or ""

    assert re.fullmatch(r"\S.*\.", caption.partition("\n")[0]), "one sentence, on the first line"


@pytest.mark.parametrize(
    "path",
    [path for path in sources(*PACKAGES, "benchmarks") if path.name == "__init__.py"],
    ids=str,
)
def test_the_caption_of_a_room_is_all_its_init_holds(path: Path) -> None:
    body = ast.parse((ROOT / path).read_text("utf-8")).body

    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in sources(*PACKAGES, "benchmarks", "tests")}),
    ids=str,
)
def test_a_room_can_be_seen_at_a_glance(folder: Path) -> None:
    files = [path for path in (ROOT / folder).iterdir() if path.is_file()]

    assert len(files) <= MAX_FILES, "make a room of a family of files"


@pytest.mark.parametrize("name", ["utils.py", "common.py", "helpers.py"])
def test_no_file_is_a_bag_of_everything(name: str) -> None:
    assert [
        str(path) for path in sources(*PACKAGES, "benchmarks", "tests") if path.name == name
    ] == []
