"""Writes a serve_config.yaml that a person can read, with the reason of each number. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

LINE = 96
HEAD = """\
proxy_location: EveryNode # a load balancer may talk to any node that runs a replica

http_options:
  host: 127.0.0.1 # 0.0.0.0 behind a load balancer; that needs `keys` in `args`, see docs/en/keys.md
  port: 8000

applications:
  - name: default
    route_prefix: /
    import_path: deployments.app:build
    autoscaling_policy: # one for all pools
      policy_function: cluster.autoscaling:serve_policy
    args:
"""
ARGS_INDENT = 6


def render(
    args: Mapping[str, Any],
    *,
    title: Sequence[str],
    reasons: Mapping[tuple[str, ...], str] | None = None,
) -> str:
    """The whole file, with `title` as its first comments and each reason above its key."""
    lines = [line for text in title for line in _comment(text, 0)]
    lines += ["", *HEAD.splitlines(), *_mapping(args, (), ARGS_INDENT, reasons or {})]
    return "\n".join(lines) + "\n"


def _mapping(
    values: Mapping[str, Any],
    path: tuple[str, ...],
    indent: int,
    reasons: Mapping[tuple[str, ...], str],
) -> Iterator[str]:
    for key, value in values.items():
        here = (*path, key)
        if here in reasons:
            yield from _comment(reasons[here], indent)
        if isinstance(value, Mapping) and value:
            yield f"{' ' * indent}{_scalar(key)}:"
            yield from _mapping(value, here, indent + 2, reasons)
        else:
            yield f"{' ' * indent}{_scalar(key)}: {_scalar(value)}"


def _scalar(value: object) -> str:
    """One value as YAML, on one line. 1200.0 is written 1200."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: int) -> list[str]:
    width = LINE - indent - 2
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, width)] or [
        " " * indent + "#"
    ]
