"""The databases of the tests of the database."""

from __future__ import annotations

from tests.database.conftest import server, url

__all__ = ["server", "url"]
