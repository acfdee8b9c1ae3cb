"""nginx.conf agrees with the limits of the service that it stands before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deployments.config import AppConfig, Limits
from deployments.serve import load_config

ROOT = Path(__file__).resolve().parent.parent.parent
CONF_FILE = ROOT / "cluster" / "nginx" / "nginx.conf"
CONF = CONF_FILE.read_text("utf-8")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
DEPLOYED = load_config(ROOT / "serve_config.yaml")


def number(directive: str, unit: str) -> int:
    """The directive's value where it is first set."""
    found = re.search(rf"^\s*{directive} (\d+){unit};", CONF, re.MULTILINE)
    assert found is not None, directive
    return int(found[1])


@pytest.mark.parametrize("config", [AppConfig(), DEPLOYED], ids=["default", "serve_config.yaml"])
def test_the_largest_upload_reaches_the_service_and_hardly_more(config: AppConfig) -> None:
    size_mb = number("client_max_body_size", "m")

    assert config.limits.max_upload_mb < size_mb < 1.1 * config.limits.max_upload_mb


def test_nginx_waits_as_long_as_the_service_may_take() -> None:
    assert number("proxy_read_timeout", "s") >= Limits().request_timeout_s


def test_a_post_is_not_repeated_once_something_was_sent() -> None:
    directives = re.sub(r"#.*", "", CONF)

    assert "non_idempotent" not in directives


def test_the_ports_are_those_that_are_deployed() -> None:
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text("utf-8"))

    ports = set(re.findall(r"server [\d.]+:(\d+)", CONF))

    assert document["proxy_location"] == "EveryNode"
    assert ports == {str(document["http_options"]["port"])}


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
def test_nginx_takes_the_file_as_it_is(tmp_path: Path) -> None:
    assert NGINX is not None
    logs = "access_log off; error_log stderr;"  # those compiled in are root's
    text = CONF.replace("http {", f"http {{ {logs} {temp_paths(tmp_path)}")
    (tmp_path / "nginx.conf").write_text(text, "utf-8")
    command = [NGINX, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]

    done = subprocess.run(
        [*command, "-g", f"pid {tmp_path}/pid;"], capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 0, done.stderr


def temp_paths(folder: Path) -> str:
    """Directives that put nginx's temporary files where anybody may write."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
