"""The site shows every document: generated pages, pictures, links, and make's own help."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from docs.hook import adapted
from docs.settings_table import texts, translations
from tests.test_docs import DOCS, ON_THE_SITE, PAGES, ROOT, in_language, table_rows


def test_every_setting_is_described_and_translated() -> None:
    undescribed = [row[0] for row in table_rows(DOCS / "en" / "configuration.md") if not row[-1]]

    assert undescribed == []
    assert set(translations("zh")) == texts()


def test_no_generated_page_is_stale() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_every_picture_is_shown_somewhere() -> None:
    links = [link for page in PAGES for link in re.findall(r"images/([\w.-]+)", page.read_text())]

    assert {path.name for path in (DOCS / "images").glob("*.[ps][nv]g")} == set(links)


def test_the_site_draws_no_diagram_with_a_script_from_a_cdn() -> None:
    assert [page.name for page in ON_THE_SITE if in_language(page, "mermaid")] == []


@pytest.mark.parametrize(
    ("markdown", "on_the_site"),
    [
        ("see [the tree](docs/en/project/tree.md#x)", "see [the tree](tree.md#x)"),
        ("see [how](CONTRIBUTING.md)", "see [how](contributing.md)"),
        ("see [the code](deployments/config.py)", "see the code"),
        ("see [Ray](https://ray.io/x)", "see [Ray](https://ray.io/x)"),
        ("`f[a](b)`", "`f[a](b)`"),
        ("```text\n[a](b.py)\n```", "```text\n[a](b.py)\n```"),
    ],
)
def test_a_link_of_a_document_leads_to_a_page_of_the_site(markdown: str, on_the_site: str) -> None:
    assert adapted(markdown, written_in="DESIGN.md", page="en/project/design.md") == on_the_site


def test_a_link_to_the_code_leads_to_the_repository_where_that_has_an_address() -> None:
    text = adapted(
        "[a](../../Makefile)", written_in="docs/en/a.md", page="en/a.md", repo_url="h://r/"
    )

    assert text == "[a](h://r/blob/main/Makefile)"


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony

    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE) == phony[1].split()
