"""The endpoints that are about keys: a browser's session, and what was used."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.api.doors import rules
from deployments.api.doors.keyring import Keyring
from deployments.api.doors.rules import COOKIE, Shown
from deployments.core.errors import BadRequest, Forbidden
from deployments.keys.limits import DAY_S, day_of
from deployments.keys.records import Caller, caller_of

HOUR_S = 3600.0
MAX_BODY_BYTES = 4096
USAGE_DAYS = 30  # of an answer, unless the request says since when
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Desk:
    """Without a keyring nobody needs a key."""

    def __init__(self, keyring: Keyring | None, session_hours: float) -> None:
        self._keyring, self._lasts_s = keyring, session_hours * HOUR_S

    def routes(self) -> list[Route]:
        return [
            Route("/v1/session", self.session, methods=["GET"]),
            Route("/v1/session", self.sign_in, methods=["POST"]),
            Route("/v1/session", self.sign_out, methods=["DELETE"]),
            Route("/v1/usage", self.usage),
        ]

    async def session(self, request: Request) -> Response:
        """Who the caller is."""
        return JSONResponse(self._told(request.state.caller))

    async def sign_in(self, request: Request) -> Response:
        """Gives a browser a session for the key in the body."""
        _check_page(request)
        text = _key_in(await _small_body(request))
        if self._keyring is None:
            return JSONResponse(self._told(request.state.caller))
        await self._keyring.ready()
        key = self._keyring.key_of(Shown(key=text or "?"))
        answer = JSONResponse(self._told(caller_of(key)))
        value = self._keyring.new_session(key, self._lasts_s)
        _set_cookie(answer, request, value, round(self._lasts_s))
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Takes the session's cookie away."""
        _check_page(request)
        answer = Response(status_code=204)
        _set_cookie(answer, request, "", 0)
        return answer

    async def usage(self, request: Request) -> Response:
        """Seconds of audio by day, key and model: of the caller's key, or of all to an operator."""
        caller: Caller = request.state.caller
        since = _day(request, "since", time.time() - (USAGE_DAYS - 1) * DAY_S)
        until = _day(request, "until", time.time())
        asked = request.query_params.get("key")
        if not caller.may("operate"):
            if asked not in (None, caller.id):
                raise Forbidden("A key without the scope 'operate' sees its own usage only.")
            asked = caller.id
        rows = [] if self._keyring is None else await self._keyring.usage(asked, since, until)
        data = [
            {
                "day": used.day,
                "key": used.key,
                "name": name,
                "model": used.model,
                "audio_s": used.audio_ms / 1000,
                "requests": used.n_requests,
            }
            for used, name in rows
        ]
        return JSONResponse({"object": "list", "data": data})

    def _told(self, caller: Caller) -> dict[str, Any]:
        return {
            "signed_in": bool(caller.id),
            "keys_required": self._keyring is not None,
            "scopes": list(caller.scopes),
            "name": caller.name,
        }


def _check_page(request: Request) -> None:
    """Raises Forbidden for a page of another origin, which could change who a user is here."""
    headers = request.headers
    if rules.is_of_a_page(headers) and not rules.is_same_origin(headers):
        raise Forbidden("A session may be changed by the service's own pages only.")


async def _small_body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest(f"The body has more than {MAX_BODY_BYTES} bytes.")
    return body


def _key_in(body: bytes) -> str:
    try:
        key = json.loads(body)["key"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest('Send {"key": "sk-pc-..."} as JSON.', "key") from None
    return str(key)


def _set_cookie(answer: Response, request: Request, value: str, lasts_s: int) -> None:
    """`Secure` follows from what the client speaks, to us or to a load balancer before us."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    answer.set_cookie(
        COOKIE,
        value,
        max_age=lasts_s,
        path="/",
        secure=scheme.lower().startswith("https"),
        httponly=True,
        samesite="strict",
    )


def _day(request: Request, name: str, default_s: float) -> str:
    value = request.query_params.get(name, day_of(default_s))
    if not DAY.fullmatch(value):
        raise BadRequest(f"{name} is a day such as 2026-11-27.", name)
    return value
