"""Writes the pages that are made from the code, so that nothing in them is written twice.

python docs/generate.py           writes them
python docs/generate.py --check   says which are stale, and exits with 1 if any is
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from settings_table import settings

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("deployments", "cluster", "clients", "benchmarks")
TREE = ROOT / "docs" / "en" / "project" / "tree.md"
TREE_HEAD = """\
# The tree

Every room and file of the source, each with the first line of its docstring.
`make docs` writes this page; a test holds it to the files.

"""


def caption(path: Path) -> str:
    """The first line of a Python file's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def entries(folder: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The room's own line, its files, then its rooms: each indented name with its caption."""
    yield "  " * depth + folder.name + "/", caption(folder / "__init__.py")
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    for path in sorted(files):
        yield "  " * (depth + 1) + path.name, caption(path)
    for room in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from entries(room, depth + 1)


def tree() -> str:
    """The page of the tree."""
    parts = []
    for room in ROOMS:
        lines = list(entries(ROOT / room))
        width = max(len(name) for name, _ in lines) + 2
        text = "\n".join(f"{name:{width}}{says}" for name, says in lines)
        parts.append(f"```text\n{text}\n```\n")
    return TREE_HEAD + "\n".join(parts)


def english_settings() -> str:
    """The English page of settings."""
    return settings("en")


def chinese_settings() -> str:
    """The Chinese page of settings."""
    return settings("zh")


PAGES = {
    TREE: tree,
    ROOT / "docs" / "en" / "configuration.md": english_settings,
    ROOT / "docs" / "zh" / "configuration.md": chinese_settings,
}


def main(arguments: list[str]) -> int:
    """The exit status."""
    stale = [
        path
        for path, make in PAGES.items()
        if not path.exists() or path.read_text("utf-8") != make()
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run make docs", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(PAGES[path](), "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
