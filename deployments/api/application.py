"""Starlette as this service needs it: with its own answer to every error, and open to browsers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, ExceptionHandler

from deployments.api.doors.door import Door


class App(Starlette):
    """Starlette, where the first handler of an error stays, and browsers may be let in.

    Serve adds its own handlers for its own errors when it has the application. They answer in
    plain text without Retry-After.
    """

    def __init__(self, cors_origins: Sequence[str], door: Door, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._cors_origins, self._door = cors_origins, door

    def add_exception_handler(
        self, exc_class_or_status_code: int | type[Exception], handler: ExceptionHandler
    ) -> None:
        self.exception_handlers.setdefault(exc_class_or_status_code, handler)

    def build_middleware_stack(self) -> ASGIApp:
        """All of Starlette behind the door, within CORS, so that a page may read errors too."""
        app = self._door.before(super().build_middleware_stack(), self.routes)
        if not self._cors_origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=("Retry-After", "warnings"),
        )
