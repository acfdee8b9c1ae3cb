"""The tables of settings on the pages named configuration.md, made from `AppConfig`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # this checkout's settings, whatever is installed

from deployments.config import AppConfig, Pool  # noqa: E402

BEGIN, END = "<!-- settings: `make docs` writes them -->\n", "<!-- end of settings -->"
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "mapping",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
HEADINGS = ("key", "default", "allowed", "what it does")
TOP = "Top level"


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The prefix of a section's keys, and its class. The first section is the top level."""
    yield "", AppConfig
    yield "pools.<name>.", Pool
    for name, field in AppConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield f"{name}.", field.annotation


def fields(section: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each setting of a section itself, with its description.

    Where a section only changes the default of a setting, the description is that of the class
    it inherits from.
    """
    properties = section.model_json_schema()["properties"]
    for name, schema in properties.items():
        inherited = (
            base.model_fields[name].description
            for base in section.__mro__
            if issubclass(base, BaseModel) and name in base.model_fields
        )
        schema["description"] = next(filter(None, inherited), "")
    return {name: schema for name, schema in properties.items() if "$ref" not in schema}


def caption(section: type[BaseModel]) -> str:
    """What a section is about: the first line of its docstring."""
    return (section.__doc__ or "").partition("\n")[0]


@cache
def translations(language: str) -> Mapping[str, str]:
    """English to the other language; empty for English."""
    path = DOCS / language / "settings.yaml"
    return yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}


def texts() -> set[str]:
    """Every text that a translation must hold."""
    said = {caption(section) for _, section in sections()}
    said |= {
        schema["description"] for _, section in sections() for schema in fields(section).values()
    }
    return (said | set(TYPES.values()) | {TOP, *HEADINGS}) - {"", "`null`"}


def allowed(schema: Mapping[str, Any], say: Mapping[str, str]) -> str:
    """The type and the bounds, in words."""
    if "anyOf" in schema:
        return ", ".join(allowed(one, say) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = TYPES[schema.get("type", "object")]
    bounds = [
        f"{sign} {schema[bound]:g}"
        for bound, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("maximum", "≤"))
        if bound in schema
    ]
    return " ".join([say.get(kind, kind), ", ".join(bounds)]).strip()


def shown(default: object) -> str:
    """A default as a configuration file would spell it."""
    if isinstance(default, float):
        return f"{default:g}"
    text = yaml.safe_dump(default, default_flow_style=True, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def said(schema: Mapping[str, Any], say: Mapping[str, str]) -> str:
    """The description as a cell of a table, which a bar would end."""
    return say.get(schema["description"], schema["description"]).replace("|", r"\|")


def table(prefix: str, section: type[BaseModel], say: Mapping[str, str]) -> str:
    """One section: its heading, its caption and the table of its settings."""
    rows = [
        (
            f"`{prefix}{name}`",
            f"`{shown(schema.get('default'))}`",
            allowed(schema, say),
            said(schema, say),
        )
        for name, schema in fields(section).items()
    ]
    head = [say.get(word, word) for word in HEADINGS]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * 4, *rows]]
    about = say.get(caption(section), caption(section))
    title = f"`{prefix.removesuffix('.')}`" if prefix else say.get(TOP, TOP)
    return f"### {title}\n\n{about}\n\n" + "\n".join(lines) + "\n"


def settings(language: str) -> str:
    """The page with its tables made anew; the text around them stays as it is."""
    text = (DOCS / language / "configuration.md").read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    say = translations(language)
    made = "\n".join(table(prefix, section, say) for prefix, section in sections())
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"
