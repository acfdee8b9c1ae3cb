"""The command line `python -m deployments.keys add | list | revoke | rotate | make`.

A key is shown once, when it is made. The database has only its hash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.core.jobs.model import NAME_CHARS
from deployments.keys import store
from deployments.keys.records import LIMITS, SCOPES, Key, checked_limits, checked_scopes
from deployments.keys.secrets import hash_of, new_id, new_key
from deployments.keys.sources import opened
from deployments.keys.store import Stored
from deployments.service_settings import Storage

T = TypeVar("T")
HOUR_S, DAY_S = 3600.0, 86_400.0
IMPORT_PATH = "deployments.app:build"

app = typer.Typer(
    help="API keys: who may use the service, and how much.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option(help="serve_config.yaml, whose `storage` says where the database is."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id, as `list` shows it.")]
Scope = Annotated[
    list[str] | None,
    typer.Option("--scope", help=f"One of {', '.join(SCOPES)}; may be repeated. Default: all."),
]
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=NUMBER", help=f"NAME is one of {', '.join(LIMITS)}."),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, for you to read.")],
    scope: Scope = None,
    limit: Limit = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires.")] = None,
    config: Config = None,
) -> None:
    """Make a key, keep its hash, and show the key once."""
    now_s, id = time.time(), new_id()
    key = new_key(id)
    try:
        if not name or len(name) > NAME_CHARS or not name.isprintable():
            raise ValueError(f"A name has 1 to {NAME_CHARS} printable characters.")
        kept = Key(
            id=id,
            name=name,
            hash=hash_of(key),
            scopes=checked_scopes(tuple(scope or SCOPES)),
            limits=checked_limits(_pairs(limit or [])),
            expires_s=None if days is None else now_s + days * DAY_S,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _with_database(config, lambda engine: store.add(engine, kept, now_s))
    _show(key)


@app.command("list")
def list_keys(config: Config = None) -> None:
    """List the keys, without their secrets."""
    now_s = time.time()
    table = Table("id", "name", "state", "made", "scopes", "limits")
    for one in _with_database(config, store.every):
        table.add_row(
            one.key.id,
            one.key.name,
            _state(one, now_s),
            _day(one.created_s),
            ", ".join(one.key.scopes),
            ", ".join(
                f"{n}={v:g}" for n in LIMITS if (v := getattr(one.key.limits, n)) is not None
            ),
        )
    Console(soft_wrap=True).print(table)


@app.command()
def revoke(id: Id, config: Config = None) -> None:
    """Revoke a key. The service refuses it within 5 seconds."""
    now_s = time.time()
    if not _with_database(config, lambda engine: store.revoke(engine, id, now_s)):
        _fail(f"There is no key {id!r} that could be revoked.")
    typer.echo(f"{id} is revoked.")


@app.command()
def rotate(
    id: Id,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Hours for which the old secret stays valid too.")
    ] = 0.0,
    config: Config = None,
) -> None:
    """Give a key another secret, and show it once. Usage and jobs stay with the key."""
    key, until_s = new_key(id), time.time() + keep_hours * HOUR_S
    if not _with_database(config, lambda e: store.rotate(e, id, hash_of(key), until_s)):
        _fail(f"There is no key {id!r} that could be changed.")
    _show(key)


@app.command()
def make() -> None:
    """Show a new key that is kept nowhere: for keys.file, or for PARAFORMER_API_KEYS."""
    _show(new_key(new_id()))


def _show(key: str) -> None:
    """The key alone on standard output, so that a script can take it."""
    typer.echo(key)
    typer.echo("Keep it now: it is not shown again.", err=True)


def _state(one: Stored, now_s: float) -> str:
    if one.revoked_s is not None:
        return f"revoked {_day(one.revoked_s)}"
    expires_s = one.key.expires_s
    if expires_s is not None:
        return f"{'expired' if expires_s <= now_s else 'until'} {_day(expires_s)}"
    return "valid"


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at_s))


def _pairs(options: list[str]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or name in pairs:
            raise ValueError(f"{option!r} is not NAME=NUMBER, with each name once.")
        pairs[name] = value
    return pairs


def _with_database(config: Path | None, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """What `work` gives. Where the database cannot be used, the command ends."""

    async def run() -> T:
        engine = await opened(_storage(config))
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except SQLAlchemyError as error:
        _fail(f"The database cannot be used: {type(error).__name__}.")
    except (OSError, ValueError, ValidationError) as error:
        _fail(str(error))


def _storage(config: Path | None) -> Storage:
    """The section `storage` of the file's application."""
    if config is None:
        return Storage()
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    for one in document["applications"]:
        if one["import_path"] == IMPORT_PATH:
            return Storage.model_validate((one.get("args") or {}).get("storage") or {})
    raise ValueError(f"{config}: no application has the import_path {IMPORT_PATH}.")


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(1)
