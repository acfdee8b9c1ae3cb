"""Where the cache and the hubs are, and how long anything may take.

The only place of this package that reads the environment: `PARAFORMER_CACHE_DIR`, and
`MODELSCOPE_DOMAIN` and `HF_ENDPOINT` with the meaning they have in the hubs' own tools (a mirror
is named the same way for both).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs of the hubs, without a slash at the end."""

    modelscope: str = "https://www.modelscope.cn"
    hugging_face: str = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Limits:
    """Every wait has one; `sleep_s` and `free_bytes` are here so that tests need neither."""

    connect_s: float = 5.0
    stall_s: float = 30.0  # nothing arrives on an open connection
    file_s: float = 3600.0  # one file, all tries together
    command_s: float = 1800.0  # one run of pip or npm
    lock_s: float = 3600.0  # another process downloads the same model
    tries: int = 5  # in a row that bring nothing
    backoff_s: float = 1.0  # before the second try; doubles
    sleep_s: Callable[[float], None] = field(default=time.sleep)
    free_bytes: Callable[[Path], int] = field(default=lambda path: shutil.disk_usage(path).free)


def cache_root(cache_dir: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The cache's directory: the argument, else the environment, else `~/.cache`."""
    if cache_dir is not None:
        return Path(cache_dir)
    named = environ.get("PARAFORMER_CACHE_DIR")
    return Path(named) if named else Path.home() / ".cache" / "paraformer-cluster"


def endpoints_from(environ: Mapping[str, str] = os.environ) -> Endpoints:
    """The hubs as the environment names them; a bare domain is reached over https."""
    default = Endpoints()
    domain = environ.get("MODELSCOPE_DOMAIN") or default.modelscope
    return Endpoints(
        modelscope=(domain if "://" in domain else f"https://{domain}").rstrip("/"),
        hugging_face=(environ.get("HF_ENDPOINT") or default.hugging_face).rstrip("/"),
    )
