"""Where Serve's proxies listen, which the configuration of the application does not say."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve.context import _get_global_client

NO_PROXY = "NoServer"  # a value of Serve's enumeration of strings


def listening_host() -> str | None:
    """The address, such as 0.0.0.0. None where no Serve runs, or where it takes no HTTP.

    Serve has no public name for this (Ray 2.60).
    """
    if not ray.is_initialized():
        return None
    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is None or client.http_config.location == NO_PROXY:
        return None
    return str(client.http_config.host or "") or None
