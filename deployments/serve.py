"""`python -m deployments.serve FILE`: Ray, Serve and the application in the foreground.

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

from deployments.config import AppConfig
from deployments.core.errors import ModelUnavailable
from deployments.deploy import IMPORT_PATH, deploy
from deployments.engines.protocols import ENGINES
from deployments.resolve import cluster_nodes, resolve
from deployments.weights.identify import identify
from deployments.weights.store import ensure

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
CONTROL_LOOP_S = "0.5"  # Serve's 0.1 s takes 5 % of a core for ever, beside the models


def load_config(path: Path) -> AppConfig:
    """The `args:` of the file's application. Raises pydantic's ValidationError, ValueError."""
    document = _document(path)
    applications = [a for a in document["applications"] if a["import_path"] == IMPORT_PATH]
    if len(applications) != 1:
        raise ValueError(f"{path}: exactly one application must have import_path {IMPORT_PATH}")
    return AppConfig.model_validate(applications[0].get("args") or {})


def load_http(path: Path) -> dict[str, Any]:
    """The file's `http_options`, of which host and port are used here."""
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
    """The application, ready, at the URL given; stopped again on leaving, with what was started.

    `address` "local" starts a Ray of its own on loopback; else it joins that cluster. Raises
    ModelUnavailable, and OSError where the port is taken.
    """
    local: dict[str, Any] = (
        {"num_cpus": num_cpus, "include_dashboard": False} if address == "local" else {}
    )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", CONTROL_LOOP_S)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process, not the replicas
    if address == "local":
        refuse_taken_port(host, port)
        fetch_weights(config)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        serve.start(http_options={"host": host, "port": port})
        deploy(config, app_name=app_name)
        yield f"http://{host}:{port}"
    finally:
        _stop(app_name, alone=address == "local")


def refuse_taken_port(host: str, port: int) -> None:
    """Raises OSError where somebody listens already.

    Serve's proxies share ports (SO_REUSEPORT), so two services on one port would both say that
    they are ready and answer in turn.
    """
    try:
        socket.create_server((host, port), reuse_port=False).close()
    except OSError as error:
        raise OSError(f"Port {port} of {host} cannot be used: {error.strerror}.") from None


def fetch_weights(config: AppConfig) -> None:
    """Every model of the configuration into this machine's cache, before anything is started.

    Raises ModelUnavailable with the remedy: clearer here than out of a replica that keeps failing.
    """
    config, _ = resolve(config, cluster_nodes())
    models = config.models
    punctuates = ENGINES[identify(models.asr).family].punctuates
    punctuation = [] if models.punctuation is None or punctuates else [models.punctuation]
    for ref in (models.vad, models.asr, *punctuation):
        ensure(ref, cache_dir=models.cache_dir, offline=models.offline)


def _stop(app_name: str, *, alone: bool) -> None:
    """Stops what `running` started, and in a cluster of others nothing else.

    Ray's messages of its own end are no news to anybody.
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
    stop = threading.Event()
    try:
        config = load_config(file)
        http = load_http(file)
        host = host or http.get("host", DEFAULT_HOST)
        port = port or http.get("port", DEFAULT_PORT)
        typer.echo("Starting Ray and loading the models ...")
        with running(config, host=host, port=port, address=address) as url:
            for number in (signal.SIGINT, signal.SIGTERM):  # after Ray has set its own
                signal.signal(number, lambda *_: stop.set())
            gcs = ray.get_runtime_context().gcs_address
            typer.echo(f"Ray at {gcs}: RAY_AUTH_MODE=token, Transcriber(address={gcs!r})")
            typer.echo(f"Ready at {url}  (POST {url}/v1/audio/transcriptions). Ctrl-C stops.")
            stop.wait()
            typer.echo("Stopping ...")
    except (ModelUnavailable, ValidationError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
