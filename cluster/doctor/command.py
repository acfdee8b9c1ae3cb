"""`python -m cluster doctor`: says whether this machine can serve, and what to do if it cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from cluster.doctor.checks import diagnose
from cluster.doctor.findings import Finding, Level
from cluster.doctor.machine import gather
from deployments.config import AppConfig

DEFAULT_PORT = 8000
MARKS: dict[Level, str] = {"green": "✔", "yellow": "!", "red": "✘"}


def main(
    config: Annotated[
        Path | None, typer.Option(help="serve_config.yaml with the models and the port")
    ] = None,
    address: Annotated[str, typer.Option(help="Ray cluster to ask; auto: this machine's")] = "auto",
    is_json: Annotated[bool, typer.Option("--json", help="print a JSON list of findings")] = False,
) -> None:
    """Check GPUs, driver, disk, ports, decoders, models and Ray. Exit status 1 if any is red."""
    try:
        app_config, port = read_config(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    findings = diagnose(gather(app_config, http_port=port, ray_address=address))
    if is_json:
        typer.echo(json.dumps([asdict(f) for f in findings], ensure_ascii=False, indent=1))
    else:
        show(findings, Console(highlight=False))
    raise typer.Exit(status(findings))


def status(findings: Sequence[Finding]) -> int:
    """The exit status: 1 if a finding is red. A machine with yellow findings can serve."""
    return int(any(finding.level == "red" for finding in findings))


def read_config(path: Path | None) -> tuple[AppConfig, int]:
    """The application's settings and its HTTP port. Raises OSError, ValueError, YAMLError."""
    if path is None:
        return AppConfig(), DEFAULT_PORT
    document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        (application,) = document["applications"]
        args = AppConfig.model_validate(application.get("args") or {})
    except (KeyError, TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise ValueError(f"{path} does not configure exactly one application: {error}") from None
    return args, int((document.get("http_options") or {}).get("port", DEFAULT_PORT))


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints the findings as a table, each remedy below its finding, and then the counts."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = f"[{finding.level}]{MARKS[finding.level]}[/]"
        table.add_row(mark, finding.check, _plain(finding.what))
        if finding.remedy:
            table.add_row("", "", f"[dim]-> {_plain(finding.remedy)}[/]")
    console.print(table)
    counted = {level: sum(f.level == level for f in findings) for level in MARKS}
    console.print(f"\n{counted['green']} green, {counted['yellow']} yellow, {counted['red']} red.")


def _plain(text: str) -> str:
    """The text with its square brackets escaped, which rich would read as markup."""
    return text.replace("[", r"\[")
