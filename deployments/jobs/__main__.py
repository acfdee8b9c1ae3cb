"""`python -m deployments.jobs webhook-secret`: what a receiver of webhooks has to know."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deployments.database.connection import connect
from deployments.database.migrate import migrate
from deployments.jobs.outbox import Outbox
from deployments.service_settings import Storage
from deployments.storage import data_dir, database_url, in_data_dir

app = typer.Typer(no_args_is_help=True, help="The jobs of this service, from the command line.")


@app.callback()
def _commands() -> None:
    """Makes Typer expect the name of a command, though there is one only."""


@app.command()
def webhook_secret(
    data: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The setting storage.data_dir, if it is not the default."),
    ] = None,
) -> None:
    """Prints the secret that signs webhooks. It is made where there is none yet."""
    typer.echo(asyncio.run(_secret(Storage(data_dir=data))))


async def _secret(storage: Storage) -> str:
    url = database_url(storage)
    if in_data_dir(url):
        data_dir(storage).mkdir(parents=True, exist_ok=True)
    engine = connect(url)
    try:
        await migrate(engine)
        return await Outbox(engine).secret()
    finally:
        await engine.dispose()


if __name__ == "__main__":
    app()
