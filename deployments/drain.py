"""Ends an application without failing a request: those under way finish, new ones are refused."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.serve.context import _get_global_client
from ray.util import list_named_actors

from deployments.handles import waiting_handle

POLL_S = 0.2
CALL_TIMEOUT_S = 5.0
CUT_S = 1.0
LAST_BYTES_S = 0.5  # for Serve's proxy, which sends the last answer
FRONTS = ("Ingress", "Router")  # every request is in one of them from its beginning to its end

logger = logging.getLogger("ray.serve")


def drain(app_name: str, *, limit_s: float, hurry: threading.Event) -> int:
    """Returns once no request is under way, after `limit_s`, or when `hurry` is set.

    Requests that arrive after this call get a 503. Returns how many requests are cut off.
    """
    since_s, began_s = time.time(), time.monotonic()
    dispatcher = waiting_handle("Dispatcher", app_name)
    while True:
        try:  # again and again, because a dispatcher that is replaced has not heard it
            dispatcher.drain.remote(since_s).result(timeout_s=CALL_TIMEOUT_S)
            left = under_way(app_name)
        except (RayError, TimeoutError) as error:
            logger.warning("Nobody could say whether requests are under way: %s", error)
            left = 1
        if not left:
            hurry.wait(LAST_BYTES_S)
        if not left or time.monotonic() - began_s > limit_s or hurry.wait(POLL_S):
            return left


def cut_off() -> None:
    """Tells Serve to stop without waiting for its replicas, as `serve.shutdown` does for 30 s."""
    client: Any = _get_global_client()
    logger.setLevel(logging.ERROR)  # Serve warns that it did not wait
    client.shutdown(timeout_s=CUT_S)


def under_way(app_name: str) -> int:
    """How many requests the ingresses and routers have, counted by Serve's replicas."""
    names = [
        actor["name"]
        for actor in list_named_actors(all_namespaces=True)
        if actor["name"].startswith(tuple(f"SERVE_REPLICA::{app_name}#{name}#" for name in FRONTS))
    ]
    counts: list[int] = []
    for name in names:
        try:
            replica: Any = ray.get_actor(name, namespace="serve")
            count = replica.get_num_ongoing_requests.remote()
            counts.append(int(ray.get(count, timeout=CALL_TIMEOUT_S)))
        except (ValueError, RayError) as error:
            if isinstance(error, GetTimeoutError):
                raise
            continue  # this replica has just ended
    return sum(counts)
