"""`python -m deployments.serve FILE`: runs Ray, Serve and the application in the foreground.

For one machine, on loopback unless told otherwise. A cluster uses `serve deploy serve_config.yaml`.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
import yaml
from pydantic import ValidationError
from ray import serve

from deployments.api import proxy
from deployments.config import AppConfig
from deployments.core.errors import ModelUnavailable
from deployments.deploy import IMPORT_PATH, deploy
from deployments.drain import cut_off, drain
from deployments.keys.required import (
    OPEN,
    OPEN_TO_ALL,
    check_host,
    check_plain,
    is_loopback,
    needs_keys,
)
from deployments.loopback import LOOPBACK, joining, on_loopback
from deployments.resolve import cluster_nodes, family_of, resolve
from deployments.weights.store import ensure

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
FOR_RAY = {  # environment variables of the processes that Ray starts
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # the default of 0.1 takes 5 % of a core
    # One event loop a replica. A call that passes between loops and threads costs a fifth more.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    proxy.CALLBACK: proxy.IMPORT_PATH,
    # gRPC looks here before `http_proxy`. Else the calls between replicas go to the proxy.
    "grpc_proxy": "",
}


def load_config(path: Path) -> AppConfig:
    """The `args:` of the file's application. Raises pydantic's ValidationError, ValueError."""
    document = _document(path)
    applications = [a for a in document["applications"] if a["import_path"] == IMPORT_PATH]
    if len(applications) != 1:
        raise ValueError(f"{path}: exactly one application must have import_path {IMPORT_PATH}")
    return AppConfig.model_validate(applications[0].get("args") or {})


def load_http(path: Path) -> dict[str, Any]:
    """The `http_options` of the file. Only host and port are used."""
    options: dict[str, Any] = _document(path).get("http_options") or {}
    return options


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


@contextmanager
def running(
    config: AppConfig,
    *,
    port: int,
    host: str = "127.0.0.1",
    address: str = "local",
    app_name: str = "default",
    num_cpus: int | None = None,
) -> Iterator[str]:
    """The URL of the running application. On leaving, all that was started is stopped again.

    `address` "local" starts a Ray of its own on loopback. Any other address joins that cluster.
    Raises ModelUnavailable, OSError if the port is taken, and ValueError if a key cannot be read
    or everybody could use the service.
    """
    check_host(config.keys, host)
    local: dict[str, Any] = (
        {"num_cpus": num_cpus, "include_dashboard": False, "_node_ip_address": LOOPBACK}
        if address == "local"
        else {}
    )
    for name, value in FOR_RAY.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process, not the replicas
    if address == "local":
        refuse_taken_port(host, port)
        check_plain(config.keys)
        fetch_weights(config)
    with on_loopback() if address == "local" else joining(address):
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        serve.start(http_options={"host": host, "port": port})
        deploy(config, app_name=app_name)
        yield f"http://{host}:{port}"
    finally:
        _stop(app_name, alone=address == "local")


def refuse_taken_port(host: str, port: int) -> None:
    """Raises OSError if another process listens on the port.

    Serve's proxies share ports (SO_REUSEPORT). Two services on one port would both say that they
    are ready, and answer in turn.
    """
    try:
        socket.create_server((host, port), reuse_port=False).close()
    except OSError as error:
        raise OSError(f"Port {port} of {host} cannot be used: {error.strerror}.") from None


def fetch_weights(config: AppConfig) -> None:
    """Puts every model of the configuration into the cache of this machine.

    Raises ModelUnavailable with the remedy, which is clearer here than in a replica that keeps
    failing.
    """
    config, _ = resolve(config, cluster_nodes())
    models = config.models
    punctuates = family_of(models.asr).punctuates
    punctuation = [] if models.punctuation is None or punctuates else [models.punctuation]
    for ref in (models.vad, models.asr, *punctuation):
        ensure(ref, cache_dir=models.cache_dir, offline=models.offline)


def _stop(app_name: str, *, alone: bool) -> None:
    """Stops what `running` started: all of Ray, or in another's cluster the application alone.

    Ray's messages about its own end are hidden.
    """
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        if alone:
            serve.shutdown()  # type: ignore[no-untyped-call]
        else:
            serve.delete(app_name)
        ray.shutdown()


def main(
    file: Annotated[Path, typer.Argument(help="serve_config.yaml, or another of its form")],
    host: Annotated[str | None, typer.Option(help="address to listen on; else FILE's")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; else FILE's")] = None,
    address: Annotated[str, typer.Option(help="Ray cluster to join; local: start one")] = "local",
) -> None:
    """Serve the application in FILE until interrupted."""
    stop, hurry = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        (hurry if stop.is_set() else stop).set()

    try:
        config = load_config(file)
        http = load_http(file)
        host = host or http.get("host", DEFAULT_HOST)
        port = port or http.get("port", DEFAULT_PORT)
        typer.echo("Starting Ray and loading the models ...")
        with running(config, host=host, port=port, address=address) as url:
            for number in (signal.SIGINT, signal.SIGTERM):  # after Ray has set its own
                signal.signal(number, on_signal)
            gcs = ray.get_runtime_context().gcs_address
            typer.echo(f"Ray at {gcs}: RAY_AUTH_MODE=token, Transcriber(address={gcs!r})")
            if not needs_keys(config.keys):
                typer.echo(OPEN if is_loopback(host) else OPEN_TO_ALL)
            typer.echo(f"Ready at {url}  (POST {url}/v1/audio/transcriptions). Ctrl-C stops.")
            typer.echo(f"The page for people is {url}/")
            stop.wait()
            typer.echo("Finishing the requests under way ... (a second Ctrl-C cuts them off)")
            left = drain("default", limit_s=config.limits.drain_timeout_s, hurry=hurry)
            typer.echo(f"Stopping: {left} requests are cut off." if left else "Stopping ...")
            if left and address == "local":
                cut_off()
    except (ModelUnavailable, ValidationError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
