"""Whether requests need a key, and where the service may listen if they do not."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from deployments.keys.plain import VARIABLE, from_environment, from_file
from deployments.service_settings import KeysSettings

OPEN = (
    "No API key is configured, so the service listens on loopback only. "
    "`python -m deployments.keys make` makes a key."
)
OPEN_TO_ALL = "No API key is configured: whoever reaches the service may use it."
REFUSED = (
    "No API key is configured, and whoever reaches {host} could use the service. Set "
    f"{VARIABLE}, keys.file or keys.database, or listen on 127.0.0.1. To serve everybody on "
    "purpose, set keys.serve_without_keys_beyond_loopback: true."
)


def needs_keys(settings: KeysSettings, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a key is configured in any of the three places, or required without one."""
    named = settings.required or settings.database or settings.file is not None
    return named or bool(environ.get(VARIABLE, "").strip(" ,"))


def as_required(settings: KeysSettings, environ: Mapping[str, str] = os.environ) -> KeysSettings:
    """The settings for other machines, whose environment may lack the variable of this one."""
    return settings.model_copy(update={"required": needs_keys(settings, environ)})


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(settings: KeysSettings, host: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raises ValueError where everybody could use the service and nobody has said so."""
    is_meant = settings.serve_without_keys_beyond_loopback
    if not (is_loopback(host) or is_meant or needs_keys(settings, environ)):
        raise ValueError(REFUSED.format(host=host))


def check_plain(settings: KeysSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Raises ValueError and OSError where the keys of the variable or the file cannot be read."""
    from_environment(environ)
    if settings.file is not None:
        from_file(settings.file)
