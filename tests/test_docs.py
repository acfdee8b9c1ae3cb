"""The README is kept true: its commands, settings, models and statuses exist, both languages agree,
and the tree names every file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup as Group
from typer.main import get_command

from deployments.config import AppConfig, Pool
from deployments.core.formats import FORMATS, from_detailed
from deployments.core.wire import STATUS
from deployments.weights.catalog import CATALOG

ROOT = Path(__file__).resolve().parent.parent
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
READMES = pytest.mark.parametrize("readme", [README, README_ZH], ids=lambda path: path.name)
DOCUMENTED = ("deployments", "cluster", "clients", "benchmarks")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
ENTRY = re.compile(r"^( *)(\S+)(?:  +(\S.*))?$")


def blocks(readme: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of one language, in order."""
    text = readme.read_text(encoding="utf-8")
    return [body for tag, body in FENCE.findall(text) if tag == language]


def commands(readme: Path) -> list[str]:
    """What a reader would type, without comments: they are in the reader's language."""
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    bare = [re.sub(r"(^|\s+)#.*$", "", line).rstrip() for line in lines]
    return [line for line in bare if line]


def code(readme: Path) -> str:
    """All code of a page: its fenced blocks and what stands between backticks in the text."""
    text = readme.read_text(encoding="utf-8")
    return "\n".join([body for _, body in FENCE.findall(text)] + SPAN.findall(FENCE.sub("", text)))


def table_rows(readme: Path) -> list[list[str]]:
    """The cells of every row of every table, without the backticks."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def settings() -> dict[str, object]:
    """Every key of the configuration with its default, those of a pool under `pools.<name>`."""
    defaults = AppConfig().model_dump()
    sections = {key: value for key, value in defaults.items() if isinstance(value, dict)}
    inner = {f"{a}.{b}": value for a, section in sections.items() for b, value in section.items()}
    pool = {f"pools.<name>.{key}": value for key, value in Pool().model_dump().items()}
    return defaults | inner | pool


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"\bmake ((?!-)[a-z][a-z-]*)", text))


def python_modules(text: str) -> set[str]:
    return set(re.findall(r"\bpython -m ([\w.]+)", text)) - {"pip", "venv"}


def tree(readme: Path) -> dict[str, str]:
    """Path to caption, from the block of the README whose first line is `deployments/`."""
    (block,) = [body for body in blocks(readme, "text") if body.startswith("deployments/")]
    captions: dict[str, str] = {}
    folders: list[str] = []
    for indent, name, caption in (
        match.groups() for match in map(ENTRY.match, block.splitlines()) if match
    ):
        folders = [*folders[: len(indent) // 2], name.rstrip("/")]
        captions["/".join(folders) + ("/" if name.endswith("/") else "")] = caption or ""
    return captions


def real_files() -> list[str]:
    """Every file of the documented folders, but caches and the empty `__init__.py`."""
    return sorted(
        str(path.relative_to(ROOT))
        for folder in DOCUMENTED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.name != "__init__.py" and "__pycache__" not in path.parts
    )


def test_both_readmes_give_the_same_commands() -> None:
    assert commands(README) == commands(README_ZH)
    assert blocks(README, "python") == blocks(README_ZH, "python")
    assert blocks(README, "yaml") == blocks(README_ZH, "yaml")
    assert blocks(README, "json") == blocks(README_ZH, "json")


@pytest.mark.parametrize("command", ["make demo", "make test", "make serve"])
def test_the_quick_start_is_there(command: str) -> None:
    assert command in commands(README)


@READMES
def test_every_make_target_in_the_readme_exists(readme: Path) -> None:
    named = make_targets(code(readme))
    exists = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert named, "the pattern has lost the README's commands"
    assert named <= exists


@READMES
def test_every_python_command_in_the_readme_exists(readme: Path) -> None:
    named = python_modules(code(readme))
    runnable = {
        name
        for name in named
        for spec in [importlib.util.find_spec(name)]
        if spec
        and (not spec.submodule_search_locations or importlib.util.find_spec(f"{name}.__main__"))
    }

    assert named, "the pattern has lost the README's commands"
    assert runnable == named


@READMES
def test_every_command_of_the_client_has_help_and_is_in_the_readme(readme: Path) -> None:
    group = get_command(importlib.import_module("clients.cli").app)
    assert isinstance(group, Group), "one command alone would lose its name"

    without_help = [name for name, command in group.commands.items() if not command.help]
    not_shown = [name for name in group.commands if f"python -m clients {name}" not in code(readme)]

    assert (without_help, not_shown) == ([], [])


@READMES
def test_every_setting_in_the_readme_exists_with_its_default(readme: Path) -> None:
    exists = settings()
    named = {row[0]: row[1] for row in table_rows(readme) if row[0].split(".")[0] in exists}

    assert named, "the pattern has lost the README's table of settings"
    assert {key: yaml.safe_load(shown) for key, shown in named.items()} == {
        key: exists.get(key, "no such key") for key in named
    }


@READMES
def test_the_fleet_in_the_readme_is_accepted(readme: Path) -> None:
    (fleet,) = blocks(readme, "yaml")

    assert set(AppConfig.model_validate(yaml.safe_load(fleet)).pools) == {"T4", "L4"}


@READMES
def test_the_answer_in_the_readme_is_one_of_ours(readme: Path) -> None:
    (answer,) = blocks(readme, "json")

    assert from_detailed(json.loads(answer)).segments[0].words


@READMES
def test_the_readme_names_every_format(readme: Path) -> None:
    assert [name for name in FORMATS if f"`{name}`" not in readme.read_text("utf-8")] == []


@READMES
def test_the_readme_has_every_model_of_the_catalogue(readme: Path) -> None:
    served = {name for name, model in CATALOG.items() if model.stage != "recording"}

    assert served <= {row[0] for row in table_rows(readme)}


@READMES
def test_the_readme_has_every_status_of_an_error(readme: Path) -> None:
    named = {row[0] for row in table_rows(readme) if row[0].isdigit()}

    assert named == {str(status) for status, _ in STATUS.values()}


@READMES
def test_every_file_named_in_a_link_exists(readme: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", readme.read_text("utf-8"))

    assert [link for link in links if not (ROOT / link).exists()] == []


@READMES
def test_the_tree_has_every_file_and_no_other(readme: Path) -> None:
    named = set(tree(readme))
    folders = tuple(name for name in named if name.endswith("/"))
    with_entries = {
        folder for folder in folders if any(n != folder and n.startswith(folder) for n in named)
    }
    data_folders = tuple(set(folders) - with_entries)  # one caption for all that is inside

    missing = [f for f in real_files() if f not in named and not f.startswith(data_folders or "\0")]
    stale = sorted(name for name in named if not (ROOT / name).exists())

    assert (missing, stale) == ([], [])


@READMES
def test_every_file_in_the_tree_has_a_caption(readme: Path) -> None:
    assert [name for name, caption in tree(readme).items() if not caption] == []


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony

    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE) == phony[1].split()
