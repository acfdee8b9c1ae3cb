"""Which error a client sees where something failed that is not an error of ours."""

from __future__ import annotations

import logging

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.core.errors import AsrError, EngineFailed, Overloaded
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
