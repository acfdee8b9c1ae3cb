"""`python -m deployments.keys`: makes, lists, revokes and rotates keys."""

from __future__ import annotations

from deployments.keys.command import app

if __name__ == "__main__":
    app()
