"""The environment variables of the cache and the hubs, and the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.weights.locking import file_lock
from deployments.weights.settings import (
    Endpoints,
    HubCaches,
    cache_root,
    endpoints_from,
    hub_caches_from,
)


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
        (
            {"MODELSCOPE_ENDPOINT": "https://modelscope.ai/", "MODELSCOPE_DOMAIN": "old"},
            Endpoints(modelscope="https://modelscope.ai"),
        ),
        ({"MODELSCOPE_ENDPOINT": "mirror.example"}, Endpoints("https://mirror.example")),
        ({"HF_TOKEN": " hf_a\n"}, Endpoints(hugging_face_token="hf_a")),
        ({"HF_TOKEN": ""}, Endpoints()),
        ({"HF_HUB_OFFLINE": "1"}, Endpoints(hugging_face_offline=True)),
        ({"HF_HUB_OFFLINE": "yes"}, Endpoints(hugging_face_offline=True)),
        ({"TRANSFORMERS_OFFLINE": "true"}, Endpoints(hugging_face_offline=True)),
        ({"HF_HUB_OFFLINE": "0"}, Endpoints()),
    ],
)
def test_mirrors_are_named_as_for_the_hubs_own_tools(
    environ: dict[str, str], endpoints: Endpoints
) -> None:
    assert endpoints_from(environ) == endpoints


def test_a_token_is_not_shown_with_the_endpoints() -> None:
    assert "hf_a" not in repr(endpoints_from({"HF_TOKEN": "hf_a"}))


HOME_CACHE = Path.home() / ".cache"


@pytest.mark.parametrize(
    ("environ", "modelscope", "hugging_face"),
    [
        ({}, HOME_CACHE / "modelscope", HOME_CACHE / "huggingface" / "hub"),
        ({"MODELSCOPE_CACHE": "/m"}, Path("/m"), HOME_CACHE / "huggingface" / "hub"),
        ({"HF_HUB_CACHE": "/h"}, HOME_CACHE / "modelscope", Path("/h")),
        ({"HF_HOME": "/h"}, HOME_CACHE / "modelscope", Path("/h/hub")),
        ({"XDG_CACHE_HOME": "/x"}, HOME_CACHE / "modelscope", Path("/x/huggingface/hub")),
        ({"HUGGINGFACE_HUB_CACHE": "~/h"}, HOME_CACHE / "modelscope", Path.home() / "h"),
    ],
)
def test_the_hubs_own_caches_are_where_their_tools_keep_them(
    environ: dict[str, str], modelscope: Path, hugging_face: Path
) -> None:
    assert hub_caches_from(environ) == HubCaches(modelscope, hugging_face)


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
