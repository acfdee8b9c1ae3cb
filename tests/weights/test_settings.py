from __future__ import annotations

from pathlib import Path

import pytest

from deployments.weights.locking import file_lock
from deployments.weights.settings import Endpoints, cache_root, endpoints_from


@pytest.mark.parametrize(
    ("environ", "endpoints"),
    [
        ({}, Endpoints("https://www.modelscope.cn", "https://huggingface.co")),
        (
            {"HF_ENDPOINT": "https://hf-mirror.com/"},
            Endpoints(hugging_face="https://hf-mirror.com"),
        ),
        ({"MODELSCOPE_DOMAIN": "modelscope.ai"}, Endpoints(modelscope="https://modelscope.ai")),
        ({"MODELSCOPE_DOMAIN": "http://here:1"}, Endpoints(modelscope="http://here:1")),
    ],
)
def test_mirrors_are_named_as_for_the_hubs_own_tools(
    environ: dict[str, str], endpoints: Endpoints
) -> None:
    assert endpoints_from(environ) == endpoints


@pytest.mark.parametrize(
    ("argument", "environ", "root"),
    [
        (Path("/a"), {"PARAFORMER_CACHE_DIR": "/b"}, Path("/a")),
        (None, {"PARAFORMER_CACHE_DIR": "/b"}, Path("/b")),
        (None, {}, Path.home() / ".cache" / "paraformer-cluster"),
    ],
)
def test_the_cache_is_where_the_argument_else_the_environment_says(
    argument: Path | None, environ: dict[str, str], root: Path
) -> None:
    assert cache_root(argument, environ) == root


def test_a_lock_that_another_holds_is_given_up_at_its_time_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    waits: list[int] = []

    with (
        file_lock(path, timeout_s=1),
        pytest.raises(TimeoutError, match=r"a\.lock"),
        file_lock(path, timeout_s=0.05, poll_s=0.02, on_wait=lambda: waits.append(1)),
    ):
        pytest.fail("two held the lock")

    assert waits
    with file_lock(path, timeout_s=0):
        pass  # free again
