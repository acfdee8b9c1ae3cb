"""The command line: a key is shown once, and the list shows none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.keys.command import app
from deployments.keys.secrets import FORM, id_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command keeps its database."""
    monkeypatch.setenv("PARAFORMER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("PARAFORMER_DATABASE_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "data"


def run(*arguments: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code != 0) == fails, result.output
    return result


def added(*arguments: str) -> str:
    """The key that was made, which alone is on standard output."""
    key = run("add", *arguments).stdout.strip()
    assert FORM.fullmatch(key)
    return key


def listed() -> str:
    return re.sub(r"\s+", " ", run("list").stdout)


def test_a_key_is_shown_once_and_only_its_id_is_listed() -> None:
    key = added("tom", "--scope", "jobs", "--limit", "max_concurrent=4", "--days", "1")

    shown = listed()

    assert str(id_of(key)) in shown
    assert "tom │ until " in shown
    assert "jobs │ max_concurrent=4" in shown
    assert key[-43:] not in shown


def test_the_database_file_is_in_a_folder_of_its_owner(folder: Path) -> None:
    key = added("tom")

    assert folder.stat().st_mode & 0o777 == 0o700
    assert key[-43:].encode() not in b"".join(p.read_bytes() for p in folder.iterdir())


def test_a_revoked_key_is_listed_as_such() -> None:
    id = str(id_of(added("tom")))

    run("revoke", id)

    assert "revoked 20" in listed()
    assert "no key" in run("revoke", id, fails=True).output
    assert "no key" in run("rotate", id, fails=True).output


def test_a_rotation_shows_a_new_secret_of_the_same_id() -> None:
    key = added("tom")

    rotated = run("rotate", str(id_of(key)), "--keep-hours", "1").stdout.strip()

    assert rotated != key
    assert id_of(rotated) == id_of(key)


def test_make_keeps_nothing(folder: Path) -> None:
    assert FORM.fullmatch(run("make").stdout.strip())
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("tom", "--scope", "admin"),
        ("tom", "--limit", "max_concurrent"),
        ("tom", "--limit", "max_concurrent=-1"),
        ("tom", "--limit", "speed=1"),
        ("",),
        ("x" * 201,),
        ("a\nb",),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(arguments: tuple[str, ...], folder: Path) -> None:
    run("add", *arguments, fails=True)

    assert not folder.exists()


def test_the_file_of_the_service_says_where_the_database_is(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(
        "applications: [{name: a, import_path: 'deployments.app:build', "
        f"args: {{storage: {{data_dir: '{tmp_path / 'other'}'}}}}}}]",
        encoding="utf-8",
    )

    added("tom", "--config", str(config))

    assert (tmp_path / "other" / "state.db").exists()


def test_a_database_that_is_not_there_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PARAFORMER_DATABASE_URL", "postgresql://me:hush@127.0.0.1:1/x")

    output = run("list", fails=True).output

    assert output.strip()
    assert "hush" not in output
