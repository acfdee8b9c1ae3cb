"""nginx.conf agrees with the limits and ports of the service behind it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks.machine import free_port
from deployments.api.proxy import MAX_HEAD_BYTES
from deployments.config import AppConfig, Limits
from deployments.serve import load_config

ROOT = Path(__file__).resolve().parent.parent.parent
CONF_FILE = ROOT / "cluster" / "nginx" / "nginx.conf"
CONF = CONF_FILE.read_text("utf-8")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
DEPLOYED = load_config(ROOT / "serve_config.yaml")


def number(directive: str, unit: str) -> int:
    """The first value of the directive."""
    found = re.search(rf"^\s*{directive} (\d+){unit};", CONF, re.MULTILINE)
    assert found is not None, directive
    return int(found[1])


@pytest.mark.parametrize("config", [AppConfig(), DEPLOYED], ids=["default", "serve_config.yaml"])
def test_nginx_lets_through_the_largest_upload_and_little_more(config: AppConfig) -> None:
    size_mb = number("client_max_body_size", "m")

    assert config.limits.max_upload_mb < size_mb < 1.1 * config.limits.max_upload_mb


def test_nginx_waits_as_long_as_the_service_may_take() -> None:
    assert number("proxy_read_timeout", "s") >= Limits().request_timeout_s


def test_nginx_lets_no_longer_head_through_than_the_service_takes() -> None:
    found = re.search(r"^\s*large_client_header_buffers (\d+) (\d+)k;", CONF, re.MULTILINE)

    assert found is not None
    assert int(found[1]) * int(found[2]) * 1024 <= MAX_HEAD_BYTES


def test_a_post_is_not_retried_once_something_was_sent() -> None:
    directives = re.sub(r"#.*", "", CONF)

    assert "non_idempotent" not in directives


def test_the_ports_are_those_of_the_deployed_service() -> None:
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text("utf-8"))

    ports = set(re.findall(r"server [\d.]+:(\d+)", CONF))

    assert document["proxy_location"] == "EveryNode"
    assert ports == {str(document["http_options"]["port"])}


needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed (apt-get install nginx-light)"
)


@needs_nginx
def test_nginx_accepts_the_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(tmp_path, 80), "-t"], capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 0, done.stderr


@needs_nginx
@pytest.mark.parametrize(
    ("start", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nX-Long: ", b"400", id="header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: here\r\nCookie: a=", b"400", id="cookie"),
        pytest.param(b"GET /", b"414", id="path"),
    ],
)
def test_nginx_refuses_a_head_that_does_not_end(
    tmp_path: Path, start: bytes, status: bytes
) -> None:
    port = free_port()
    with subprocess.Popen([*command(tmp_path, port), "-g", "daemon off;"]) as nginx:
        try:
            with connected(port) as connection:
                connection.sendall(start)
                for _ in range(1000):  # 64 MB, which nginx reads on and throws away
                    connection.sendall(b"x" * 65_536)
                workers = psutil.Process(nginx.pid).children()
                resident = max(worker.memory_info().rss for worker in workers)
                answer = connection.recv(100)
        finally:
            nginx.terminate()

    assert answer.split()[1] == status
    assert resident < 32_000_000


def command(folder: Path, port: int) -> list[str]:
    """The command that starts nginx with the file on this port of loopback."""
    assert NGINX is not None
    logs = f"access_log off; error_log stderr; {temp_paths(folder)}"  # else only root may write
    text = CONF.replace("http {", f"http {{ {logs}").replace(
        "listen 80;", f"listen 127.0.0.1:{port};"
    )
    text = text.replace("events {}", f"pid {folder}/pid; events {{}}")
    (folder / "nginx.conf").write_text(text, "utf-8")
    return [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def connected(port: int) -> socket.socket:
    """A connection to nginx, as soon as it listens."""
    for _ in range(100):
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


def temp_paths(folder: Path) -> str:
    """Directives that put nginx's temporary files into a folder that this user may write."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
