"""The command `doctor`: its exit status, its report, and the configuration that it reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.doctor import command as doctor
from cluster.doctor.findings import Finding


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(["green"], 0), (["green", "yellow"], 0), (["yellow", "red"], 1)],
)
def test_only_red_is_a_failure(levels: list[Any], expected: int) -> None:
    assert doctor.status([Finding("x", level, "y") for level in levels]) == expected


def test_the_report_shows_brackets_as_they_are_and_counts_the_findings() -> None:
    console = Console(width=100, record=True, file=io.StringIO())

    doctor.show([Finding("a", "yellow", "needs [server]", "pip install .[server]")], console)

    text = console.export_text()
    assert "needs [server]" in text
    assert "-> pip install .[server]" in text
    assert "0 green, 1 yellow, 0 red." in text


def test_the_settings_and_the_port_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "serve_config.yaml"
    file.write_text(
        "http_options: {port: 9000}\n"
        "applications: [{name: asr, args: {models: {asr: whisper-small, offline: true}}}]\n"
    )

    config, port = doctor.read_config(file)

    assert (config.models.asr, config.models.offline, port) == ("whisper-small", True, 9000)


def test_a_file_that_configures_no_application_is_refused_with_status_2(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("applications: {}\n")

    done = CliRunner().invoke(app, ["doctor", "--config", str(file)])

    assert done.exit_code == 2
    assert "other.yaml" in done.output


@pytest.mark.slow
def test_the_command_judges_this_machine_and_prints_a_flat_list() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json", "--address", "127.0.0.1:1"])

    findings = json.loads(done.stdout)
    assert {"gpu", "gpu memory"} & {f["check"] for f in findings}
    assert all(set(f) == {"check", "level", "what", "remedy"} for f in findings)
    assert [f["check"] for f in findings if f["level"] != "green" and not f["remedy"]] == []
    assert done.exit_code == int(any(f["level"] == "red" for f in findings))
