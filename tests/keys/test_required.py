"""When a key is needed, and that nobody serves everybody by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.keys.plain import VARIABLE
from deployments.keys.required import as_required, check_host, is_loopback, needs_keys
from deployments.service_settings import KeysSettings

SOME = {VARIABLE: "sk-pc-..."}


@pytest.mark.parametrize(
    ("settings", "environ", "needed"),
    [
        ({}, {}, False),
        ({}, {VARIABLE: " , "}, False),
        ({}, SOME, True),
        ({"required": True}, {}, True),
        ({"database": True}, {}, True),
        ({"file": Path("/keys")}, {}, True),
        ({"max_concurrent": 1}, {}, False),
    ],
)
def test_a_key_is_needed_where_any_place_for_keys_is_named(
    settings: dict[str, Any], environ: dict[str, str], needed: bool
) -> None:
    assert needs_keys(KeysSettings(**settings), environ) is needed


def test_another_machine_learns_that_keys_are_needed_without_the_variable() -> None:
    assert needs_keys(as_required(KeysSettings(), SOME), {})
    assert not needs_keys(as_required(KeysSettings(), {}), SOME | {VARIABLE: ""})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    check_host(KeysSettings(), host, {})

    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil.com", ""]
)
def test_elsewhere_a_key_or_a_plain_word_is_needed(host: str) -> None:
    with pytest.raises(ValueError, match="serve_without_keys_beyond_loopback: true"):
        check_host(KeysSettings(), host, {})

    check_host(KeysSettings(serve_without_keys_beyond_loopback=True), host, {})
    check_host(KeysSettings(), host, SOME)
