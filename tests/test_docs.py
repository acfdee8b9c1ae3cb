"""Every page of the documents is true: commands, code, links, settings, models and statuses."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from typer.main import get_command

from benchmarks.__main__ import BENCHMARKS
from deployments.config import AppConfig, Pool
from deployments.core.formats import FORMATS, from_detailed
from deployments.core.wire import STATUS
from deployments.weights.catalog import CATALOG
from docs.hook import SHOWN

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
ON_THE_SITE = [*sorted(DOCS.glob("en/**/*.md")), *sorted(DOCS.glob("zh/**/*.md"))]
PAGES = [*READMES, ROOT / "DESIGN.md", ROOT / "CONTRIBUTING.md", *ON_THE_SITE]
ENGLISH_ONLY = {"project/tree.md", *(page.removeprefix("en/") for page in SHOWN)}

FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


def relative(path: Path) -> str:
    """How a test's name shows a page."""
    return str(path.relative_to(ROOT))


def in_chinese(page: Path) -> Path:
    """Where the translation of an English page is."""
    return READMES[1] if page == READMES[0] else DOCS / "zh" / page.relative_to(DOCS / "en")


EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=relative)
ENGLISH = sorted({*DOCS.glob("en/**/*.md")} - {DOCS / "en" / name for name in ENGLISH_ONLY})
TRANSLATED = pytest.mark.parametrize("page", [READMES[0], *ENGLISH], ids=relative)
LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of every fenced block, in order."""
    return [(tag, dedent(body)) for tag, body in FENCE.findall(page.read_text("utf-8"))]


def in_language(page: Path, language: str) -> list[str]:
    """The contents of the blocks of one language."""
    return [body for tag, body in blocks(page) if tag == language]


def without_words(block: tuple[str, str]) -> tuple[str, str]:
    """A block without what a translator changes: comments of a shell, labels of a diagram."""
    tag, body = block
    words = {"bash": r"(^|\s+)#.*$", "mermaid": r".*"}.get(tag)
    return tag, re.sub(words, "", body, flags=re.MULTILINE) if words else body


def code(*pages: Path) -> str:
    """All code: fenced blocks, a continued line as one, and what stands between backticks."""
    text = "\n".join(page.read_text("utf-8") for page in pages)
    bodies = [body for _, body in FENCE.findall(text)]
    return "\n".join(bodies + SPAN.findall(FENCE.sub("", text))).replace("\\\n", " ")


def table_rows(page: Path) -> list[list[str]]:
    """The cells of every row of every table, without the backticks."""
    lines = page.read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def settings() -> dict[str, object]:
    """Every key of the configuration with its default, those of a pool under `pools.<name>`."""
    defaults = AppConfig().model_dump(mode="json")
    sections = {key: value for key, value in defaults.items() if isinstance(value, dict)}
    inner = {f"{a}.{b}": value for a, section in sections.items() for b, value in section.items()}
    pool = {f"pools.<name>.{key}": value for key, value in Pool().model_dump(mode="json").items()}
    top = {key: value for key, value in defaults.items() if key not in sections}
    return top | inner | pool


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"\bmake ((?!-)[a-z][a-z-]*)", text))


def python_modules(text: str) -> set[str]:
    return set(re.findall(r"\bpython -m ([\w.]+)", text)) - {"pip", "venv"}


def is_runnable(module: str) -> bool:
    """Whether `python -m module` finds something to run."""
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return spec is not None and (
        not is_package or importlib.util.find_spec(f"{module}.__main__") is not None
    )


def imported(source: str) -> Iterator[tuple[str, str | None]]:
    """Each module that Python code imports, with the name taken from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((name.name, None) for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", name.name) for name in node.names)


def is_there(module: str, name: str | None) -> bool:
    return name is None or hasattr(importlib.import_module(module), name)


def configurations(page: Path) -> list[dict[str, Any]]:
    """The YAML blocks that are `args:` of the application, or hold them."""
    found = [yaml.safe_load(body) for body in in_language(page, "yaml")]
    served = [app.get("args", {}) for one in found for app in one.get("applications", [])]
    return served + [one for one in found if AppConfig.model_fields.keys() & one]


def answers(page: Path) -> list[dict[str, Any]]:
    """The JSON blocks that have the shape of `detailed_json`."""
    found = [json.loads(body) for body in in_language(page, "json")]
    return [one for one in found if "duration_ms" in one]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


def leads_nowhere(page: Path, link: str) -> bool:
    """Whether a link's file, or its heading, is missing."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


def commands_of(module: str) -> dict[str, str | None]:
    """Each command of a program with its help."""
    group: Any = get_command(importlib.import_module(module).app)
    context = group.make_context("", ["--help"], resilient_parsing=True)
    return {name: group.get_command(context, name).help for name in group.list_commands(context)}


PROGRAMS = {
    "clients": commands_of("clients.cli"),
    "cluster": commands_of("cluster.__main__"),
    "deployments.weights": commands_of("deployments.weights.__main__"),
    "benchmarks": {name: benchmark.caption for name, benchmark in BENCHMARKS.items()},
}


def commands_named(program: str, *pages: Path) -> set[str]:
    """The commands of a program that pages name."""
    return set(re.findall(rf"\bpython -m {re.escape(program)} ([a-z]\w*)", code(*pages)))


def test_both_languages_have_the_same_pages() -> None:
    assert {*DOCS.glob("zh/**/*.md")} == {in_chinese(page) for page in ENGLISH}


@TRANSLATED
def test_both_languages_give_the_same_commands_and_code(page: Path) -> None:
    assert [*map(without_words, blocks(in_chinese(page)))] == [*map(without_words, blocks(page))]


@pytest.mark.parametrize("readme", READMES, ids=relative)
def test_a_readme_is_a_front_page(readme: Path) -> None:
    lines = readme.read_text("utf-8").splitlines()

    assert len(lines) <= 200
    assert {"make demo", "make test", "make serve"} <= set(lines)


@EVERY_PAGE
def test_every_make_target_exists(page: Path) -> None:
    exists = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert make_targets(code(page)) - exists == set()


@EVERY_PAGE
def test_every_python_command_exists(page: Path) -> None:
    assert [name for name in python_modules(code(page)) if not is_runnable(name)] == []


@EVERY_PAGE
def test_python_code_compiles_and_finds_its_imports(page: Path) -> None:
    wanted = {one for body in in_language(page, "python") for one in imported(body)}

    assert [one for one in wanted if not is_there(*one)] == []


@EVERY_PAGE
def test_every_configuration_is_accepted(page: Path) -> None:
    accepted = [AppConfig.model_validate(one) for one in configurations(page)]

    assert len(accepted) == len(configurations(page))


@EVERY_PAGE
def test_every_detailed_answer_is_one_of_ours(page: Path) -> None:
    assert [one for one in answers(page) if not from_detailed(one).segments] == []


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s:]+)\)", FENCE.sub("", page.read_text("utf-8")))

    assert [link for link in links if leads_nowhere(page, link)] == []


@EVERY_PAGE
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    sections = "|".join(key for key in AppConfig.model_fields if f"{key}.num_cpus" in settings())
    named = re.findall(
        rf"(?m)^(?:{sections}|models|limits|autoscaling)\.[a-z_]+\b(?!\()", code(page)
    )

    assert {key for key in named if not key.endswith(".py")} - settings().keys() == set()


def test_the_patterns_find_what_they_look_for() -> None:
    everything = code(*PAGES)

    assert {"demo", "test", "serve", "check", "setup-gpu"} <= make_targets(everything)
    assert {"clients", "cluster", "deployments.weights"} <= python_modules(everything)
    assert [page.name for page in PAGES if configurations(page)]
    assert [page.name for page in PAGES if answers(page)]
    assert [page.name for page in PAGES if in_language(page, "python")]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_has_help_and_is_in_the_documents(program: str) -> None:
    commands = PROGRAMS[program]

    assert [name for name, help_ in commands.items() if not help_] == []
    assert commands.keys() - commands_named(program, *DOCS.glob("en/**/*.md")) == set()


@EVERY_PAGE
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_that_a_page_names_exists(program: str, page: Path) -> None:
    assert commands_named(program, page) - PROGRAMS[program].keys() == set()


@LANGUAGES
def test_every_format_has_its_page_and_is_in_the_http_api(language: str) -> None:
    api = (DOCS / language / "http-api.md").read_text("utf-8")

    assert [name for name in FORMATS if f"(formats/{name}.md)" not in api] == []
    assert [name for name in FORMATS if not (DOCS / language / f"formats/{name}.md").exists()] == []


@LANGUAGES
def test_the_http_api_has_every_status_of_an_error(language: str) -> None:
    named = {row[0] for row in table_rows(DOCS / language / "http-api.md") if row[0].isdigit()}

    assert named == {str(status) for status, _ in STATUS.values()}


@LANGUAGES
def test_the_page_of_models_has_every_model_of_the_catalogue(language: str) -> None:
    served = {name for name, model in CATALOG.items() if model.stage != "recording"}

    assert served <= {row[0] for row in table_rows(DOCS / language / "models.md")}


@LANGUAGES
def test_the_page_of_settings_has_every_setting_with_its_default(language: str) -> None:
    rows = table_rows(DOCS / language / "configuration.md")

    shown = {row[0]: yaml.safe_load(row[1]) for row in rows if row[0] in settings()}

    assert shown == settings()
