"""`python -m deployments.demo`: the demo from a shell."""

import typer

from deployments.demo.command import main

if __name__ == "__main__":
    typer.run(main)
