"""`python -m cluster doctor | plan | simulate | top`: each imported when it is run or described."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

# Name -> "module:function"; the function's parameters are the command's options.
COMMANDS = {
    "doctor": "cluster.doctor:main",
    "plan": "cluster.plan:plan",
    "simulate": "cluster.simulate:simulate",
    "top": "cluster.top:main",
}


class LazyCommands(TyperGroup):
    """Finds a command in `COMMANDS` when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command(cmd_name) if cmd_name in COMMANDS else None


def command(name: str) -> Any:
    """The command, as typer makes it of the function's signature and docstring."""
    module, function = COMMANDS[name].split(":")
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command(name)(getattr(importlib.import_module(module), function))
    return typer.main.get_command(one)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The machines: what they are, what they should serve, what they do now.",
)


@app.callback()
def _group() -> None:
    """Makes a group of it: typer would else ask for a command of its own."""


if __name__ == "__main__":
    app(prog_name="python -m cluster")
