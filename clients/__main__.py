"""`python -m clients`: runs the command line of the clients."""

from clients.cli import app

app(prog_name="python -m clients")
