"""Every error as an answer, by `STATUS` of core/wire.py."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from deployments.core.errors import (
    AsrError,
    BadRequest,
    EngineFailed,
    Overloaded,
    UploadTooLarge,
)
from deployments.core.wire import to_error_body
from deployments.request.calls import broke

logger = logging.getLogger("ray.serve")

BUSY_RETRY_S = 5.0
UNAVAILABLE = (BackPressureError, DeploymentUnavailableError, RayActorError, TimeoutError)


def as_asr_error(error: Exception) -> AsrError:
    """The error that a client may see. Any foreign error is logged and told in a plain sentence."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, AsrError):
        return error.cause
    if isinstance(error, AsrError):
        return error
    if isinstance(error, UNAVAILABLE) or broke(error):
        logger.warning("A stage was not available: %s", type(error).__name__)
        return Overloaded(BUSY_RETRY_S)
    logger.error("An unexpected error.", exc_info=error)
    return EngineFailed("The service failed on this request. Its log has the details.")


async def error_answer(request: Request, error: Exception) -> Response:
    shown = as_asr_error(error)
    status, headers, body = to_error_body(shown)
    if status == 503:
        headers.setdefault("Retry-After", str(round(BUSY_RETRY_S)))
    if isinstance(shown, UploadTooLarge):
        headers["Connection"] = "close"  # else the proxy would read on to the upload's end
    return JSONResponse(body, status, headers)


async def gone(request: Request, error: Exception) -> Response:
    """The client left while it was sending, so nobody reads this answer."""
    return Response(status_code=400)


async def http_error(request: Request, error: Exception) -> Response:
    """An error of Starlette's own, such as an unknown path or method."""
    assert isinstance(error, HTTPException)
    _, _, body = to_error_body(BadRequest(str(error.detail)))
    body["error"]["code"] = str(error.detail).lower().replace(" ", "_")
    return JSONResponse(body, error.status_code, error.headers)


HANDLERS: Mapping[Any, Any] = {
    **dict.fromkeys((Exception, AsrError, RayTaskError, AioRpcError, *UNAVAILABLE), error_answer),
    HTTPException: http_error,
    ClientDisconnect: gone,
}
