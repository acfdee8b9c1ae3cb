"""`python -m clients`: the command line."""

from clients.cli import app

app(prog_name="python -m clients")
