"""The commands of `python -m deployments.weights`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.weights.__main__ import app
from deployments.weights.catalog import CATALOG, FSMN_VAD
from deployments.weights.verify import check_model, write_lock
from tests.weights.samples import CONTENTS

runner = CliRunner(env={"COLUMNS": "200"})


def run(*arguments: str | Path) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with an fsmn-vad that has a record and the wrong content."""
    directory = tmp_path / "models" / "fsmn-vad"
    directory.mkdir(parents=True)
    for name, content in {**CONTENTS, "configuration.json": b"{}"}.items():
        (directory / name).write_bytes(content)
    write_lock(directory, FSMN_VAD, "a test", check_model(directory, FSMN_VAD, None))
    return tmp_path


def test_list_as_json_names_every_model_and_what_is_there(tmp_path: Path) -> None:
    result = run("list", "--json", "--cache-dir", tmp_path)

    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(CATALOG)
    assert {row["cached"] for row in rows} == {False}
    assert rows[0]["pinned"] is True


def test_list_shows_a_table_and_the_cache(tmp_path: Path) -> None:
    result = run("list", "--cache-dir", tmp_path)

    assert result.exit_code == 0
    assert "whisper-small" in result.stdout
    assert str(tmp_path) in result.stdout.replace("\n", "")


def test_fetch_of_what_cannot_be_had_fails_and_says_the_remedy(tmp_path: Path) -> None:
    result = run("fetch", "ct-punc-zh", "--offline", "--cache-dir", tmp_path)

    assert result.exit_code == 1
    assert "ct-punc-zh" in result.stderr
    assert "downloads are off" in result.stderr.replace("\n", " ")


def test_fetch_goes_on_after_a_model_that_failed(tmp_path: Path) -> None:
    result = run("fetch", "ct-punc-zh", "fake:vad", "--offline", "--cache-dir", tmp_path)

    assert result.exit_code == 1
    assert "fake:vad: ." in result.stdout


def test_fetch_of_what_is_there_succeeds(tmp_path: Path) -> None:
    result = run("fetch", "fake:asr", "--cache-dir", tmp_path)

    assert result.exit_code == 0


def test_verify_fails_on_a_file_with_another_hash(cache: Path) -> None:
    result = run("verify", "fsmn-vad", "--cache-dir", cache)

    assert result.exit_code == 1
    assert "has SHA-256" in result.stdout


def test_verify_fails_on_a_model_that_is_not_there(tmp_path: Path) -> None:
    result = run("verify", "fsmn-vad", "--cache-dir", tmp_path)

    assert result.exit_code == 1
    assert "is missing" in result.stdout


def test_verify_refuses_an_unknown_id(tmp_path: Path) -> None:
    result = run("verify", "nothing", "--cache-dir", tmp_path)

    assert result.exit_code == 2


def test_verify_of_an_empty_cache_says_so(tmp_path: Path) -> None:
    result = run("verify", "--cache-dir", tmp_path)

    assert result.exit_code == 0
    assert "holds no model" in result.stdout


@pytest.mark.parametrize("command", [[], ["fetch"], ["list"], ["verify"]])
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")

    assert result.exit_code == 0
    assert "cache" in result.stdout.lower() or "fetch" in result.stdout.lower()
