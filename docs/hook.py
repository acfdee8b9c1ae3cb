"""Lets the site show documents that stand outside docs/, and adapts links that leave docs/.

MkDocs calls the functions whose names begin with `on_`.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import jieba

ROOT = Path(__file__).resolve().parent.parent

# A page of docs/en to the document in the repository that it shows.
SHOWN = {
    "en/project/design.md": "DESIGN.md",
    "en/project/contributing.md": "CONTRIBUTING.md",
    "en/project/changelog.md": "CHANGELOG.md",
    "en/project/results.md": "benchmarks/RESULTS.md",
}
PAGE_OF = {document: page for page, document in SHOWN.items()} | {
    "README.md": "en/index.md",
    "README.zh-CN.md": "zh/index.md",
}

# Code is matched first, so that a link inside code stays as it is.
CODE_OR_LINK = re.compile(
    r"^(?P<fence>`{3,}).*?^(?P=fence)$"
    r"|(?<!\[)`[^`\n]+`"
    r"|\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)


def adapted(markdown: str, *, written_in: str, page: str, repo_url: str = "") -> str:
    """The text with each link leading to a page of the site, or into the repository.

    `written_in` is the document's path in the repository, `page` the path below docs/ of the page
    that shows the document. Without a `repo_url`, a link to a source file becomes its text.
    """

    def adapt(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or re.match(r"\w+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(written_in), target))
        below_docs = PAGE_OF.get(path) or path.removeprefix("docs/")
        if path in PAGE_OF or below_docs != path:
            link = posixpath.relpath(below_docs, posixpath.dirname(page))
            return f"[{match['text']}]({link}{match['anchor'] or ''})"
        if repo_url:
            return f"[{match['text']}]({repo_url.rstrip('/')}/blob/main/{path})"
        return match["text"]

    return CODE_OR_LINK.sub(adapt, markdown)


def on_startup(*, command: str, dirty: bool) -> None:
    """Keeps jieba, which cuts Chinese words for the search, from saying that it has begun."""
    jieba.setLogLevel(logging.WARNING)


def on_page_read_source(*, page: Any, config: Any) -> str | None:
    """The document that this page shows; None where the page is its own document."""
    shown = SHOWN.get(page.file.src_uri)
    return (ROOT / shown).read_text("utf-8") if shown else None


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """The page's text, with its links adapted."""
    uri = page.file.src_uri
    written_in = SHOWN.get(uri, f"docs/{uri}")
    return adapted(markdown, written_in=written_in, page=uri, repo_url=config.repo_url or "")
