"""The reason given for a Ray that cannot be joined: it died, wants a token, or does not run."""

from __future__ import annotations

import socket

from cluster.ray_view import look, read


def test_if_ray_kills_the_process_that_asks_its_last_line_is_the_reason() -> None:
    assert read("", "log line\nCheck failed: gcs is gone\n").failure == "Check failed: gcs is gone"
    assert read("", "").failure


def test_a_ray_that_wants_a_token_names_the_setting_for_it() -> None:
    repeated = "gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken: missing\n" * 3

    assert "RAY_AUTH_MODE=token" in read("", repeated).failure


def test_an_address_where_nothing_listens_fails_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    view = look(f"127.0.0.1:{port}", timeout_s=60)

    assert view.failure == f"nothing listens at 127.0.0.1:{port}"
