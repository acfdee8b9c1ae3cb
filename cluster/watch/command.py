"""`python -m cluster top`: gathers and shows the state of nodes, GPUs, pools and requests."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.live import Live

from cluster import ray_view
from cluster.gpus import Reading, read_gpus
from cluster.ray_view import RayNode
from cluster.watch.tables import Picture, render
from deployments.proxies import Transport, through

DEFAULT_URL = "http://127.0.0.1:8000"
SERVICE_TIMEOUT_S = 3.0
RAY_TIMEOUT_S = 20.0
SAMPLE_TIMEOUT_S = 5.0
FIRST_SAMPLE_TIMEOUT_S = 30.0  # longer, because the sampler's process has to start first

Ask = Callable[[], "tuple[list[RayNode], dict[str, Reading]]"]


def main(
    url: Annotated[str, typer.Option(help="where the service is")] = DEFAULT_URL,
    address: Annotated[str, typer.Option(help="Ray cluster; auto: this machine's")] = "auto",
    interval_s: Annotated[float, typer.Option(min=0.5, help="seconds between two updates")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="print once, then exit")] = False,
) -> None:
    """Watch nodes, GPUs, pools and requests, until Ctrl-C.

    Where the service needs a key, PARAFORMER_API_KEY has one with the scope `operate`.
    With --once the exit status is 1 if neither a cluster nor a service answers.
    """
    console = Console(highlight=False)
    ask, problems = hardware(address, interval_s)
    key = os.environ.get("PARAFORMER_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(timeout=SERVICE_TIMEOUT_S, headers=headers, transport=Transport()) as client:
        picture = look(ask, client, url, problems)
        if once:
            console.print(render(picture))
            raise typer.Exit(int(not picture.nodes and picture.service is None))
        watch(lambda: look(ask, client, url, problems), picture, console, interval_s)


def watch(
    again: Callable[[], Picture], picture: Picture, console: Console, interval_s: float
) -> None:
    """Shows the picture, and a new one at every interval, until Ctrl-C."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(render(picture), console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(interval_s)
            live.update(render(again()), refresh=True)


def look(ask: Ask, client: httpx.Client, url: str, problems: tuple[str, ...]) -> Picture:
    """One picture. Whatever does not answer becomes one of its problems."""
    found, gpus = ask()
    service, failure = ask_service(client, url)
    return Picture(found, gpus, service, (*problems, *([failure] if failure else [])))


def ask_service(client: httpx.Client, url: str) -> tuple[Mapping[str, Any] | None, str]:
    """The body of /readyz, or None and the reason. The body comes with status 503 too."""
    try:
        body = client.get(f"{url.rstrip('/')}/readyz").json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, f"No service answers at {url}: {error}"
    except ValueError:
        body = None
    if not isinstance(body, dict) or "ready" not in body:
        return None, f"Another program answers at {url}{through(url)}, not this service."
    return body, ""


def hardware(address: str, interval_s: float) -> tuple[Ask, tuple[str, ...]]:
    """How to ask for nodes and cards: the cluster's, or only this machine's if no cluster runs."""
    view = ray_view.look(address, timeout_s=RAY_TIMEOUT_S)
    if view.failure:
        host = socket.gethostname()
        return lambda: ([], {host: read_gpus()}), (f"No cluster: {view.failure}.",)
    ray_view.connect(view.address)
    return cluster_hardware(interval_s), ()


def cluster_hardware(interval_s: float, read: Callable[[], Reading] = read_gpus) -> Ask:
    """How to ask Ray for its nodes, and the samplers for the cards of the nodes with GPUs.

    Uses the samplers of the running application. Nodes without one get a sampler that ends with
    this process.
    """
    from cluster.gpu_metrics import Samplers, gpu_hosts

    samplers = Samplers(interval_s=interval_s, read=read)
    seen: set[str] = set()

    def ask() -> tuple[list[RayNode], dict[str, Reading]]:
        found = ray_view.nodes()
        hosts = gpu_hosts(found)
        timeout_s = SAMPLE_TIMEOUT_S if hosts.keys() <= seen else FIRST_SAMPLE_TIMEOUT_S
        readings = samplers.latest(hosts, timeout_s=timeout_s)
        seen.update(hosts)
        return found, {hosts[node_id]: reading for node_id, reading in readings.items()}

    return ask
