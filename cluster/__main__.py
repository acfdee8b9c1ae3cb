"""`python -m cluster doctor | plan | simulate | top`; a command is imported only when needed."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

# Name -> "module:function"; the function's parameters are the command's options.
COMMANDS = {
    "doctor": "cluster.doctor.command:main",
    "plan": "cluster.planning.command:plan",
    "simulate": "cluster.simulation.command:simulate",
    "top": "cluster.watch.command:main",
}


class LazyCommands(TyperGroup):
    """Imports a command of `COMMANDS` when it is run or its help is shown."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command(cmd_name) if cmd_name in COMMANDS else None


def command(name: str) -> Any:
    """The command that typer makes from the function's signature and docstring."""
    module, function = COMMANDS[name].split(":")
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command(name)(getattr(importlib.import_module(module), function))
    return typer.main.get_command(one)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Check, plan, simulate and watch the machines that serve.",
)


@app.callback()
def _group() -> None:
    """Makes the app a group: without a callback typer wants a command of the app itself."""


if __name__ == "__main__":
    app(prog_name="python -m cluster")
