"""Where the cache and the hubs are, and the timeouts of a download.

Only this file of the package reads the environment. `PARAFORMER_CACHE_DIR` is ours. The variables
of ModelScope and Hugging Face mean the same as in the hubs' own tools, so that mirrors, caches and
tokens are configured once for both.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its switches


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The base URLs of the hubs, without a slash at the end, and how to use Hugging Face."""

    modelscope: str = "https://www.modelscope.cn"
    hugging_face: str = "https://huggingface.co"
    hugging_face_token: str | None = field(default=None, repr=False)
    hugging_face_offline: bool = False  # never ask it; its cache is still used


@dataclass(frozen=True, slots=True)
class HubCaches:
    """The directories in which the hubs' own tools keep models."""

    modelscope: Path
    hugging_face: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts and retries. `sleep_s` and `free_bytes` are fields so that tests can set them."""

    connect_s: float = 5.0
    stall_s: float = 30.0  # while nothing arrives on an open connection
    file_s: float = 3600.0  # for one file, all tries together
    command_s: float = 1800.0  # for one run of pip or npm
    lock_s: float = 3600.0  # while another process downloads the same model
    tries: int = 5  # in a row that bring hardly anything
    backoff_s: float = 1.0  # before the second try; doubles with each try
    sleep_s: Callable[[float], None] = field(default=time.sleep)
    free_bytes: Callable[[Path], int] = field(default=lambda path: shutil.disk_usage(path).free)


def cache_root(cache_dir: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The cache's directory: the argument, or that of the environment, or one in `~/.cache`."""
    if cache_dir is not None:
        return Path(cache_dir)
    named = environ.get("PARAFORMER_CACHE_DIR")
    return Path(named) if named else Path.home() / ".cache" / "paraformer-cluster"


def endpoints_from(environ: Mapping[str, str] = os.environ) -> Endpoints:
    """The hubs' addresses, which the environment may replace. A bare domain means https.

    `MODELSCOPE_ENDPOINT` is the newer name of `MODELSCOPE_DOMAIN`, and wins.
    """
    default = Endpoints()
    modelscope = (
        environ.get("MODELSCOPE_ENDPOINT") or environ.get("MODELSCOPE_DOMAIN") or default.modelscope
    )
    offline = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return Endpoints(
        modelscope=(modelscope if "://" in modelscope else f"https://{modelscope}").rstrip("/"),
        hugging_face=(environ.get("HF_ENDPOINT") or default.hugging_face).rstrip("/"),
        hugging_face_token=environ.get("HF_TOKEN", "").strip() or None,
        hugging_face_offline=offline.upper() in _TRUE,
    )


def hub_caches_from(environ: Mapping[str, str] = os.environ) -> HubCaches:
    """Where the hubs' own tools keep models, by their variables or their defaults."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hf_home = Path(environ.get("HF_HOME") or cache / "huggingface")
    hf_hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or hf_home / "hub"
    modelscope = environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope"
    return HubCaches(Path(modelscope).expanduser(), Path(hf_hub).expanduser())
