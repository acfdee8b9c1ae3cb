"""nginx.conf agrees with the limits of the service that it stands before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deployments.config import AppConfig, Limits
from deployments.serve import load_config

ROOT = Path(__file__).resolve().parent.parent.parent
CONF = (ROOT / "cluster" / "nginx" / "nginx.conf").read_text("utf-8")
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

    ports = set(re.findall(r"server node-\d+:(\d+)", CONF))

    assert document["proxy_location"] == "EveryNode"
    assert ports == {str(document["http_options"]["port"])}
