"""Decides what "auto" in a configuration means, once, before the graph is built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray

from cluster.planning.fleet import nodes_of
from cluster.planning.placement import Node, auto_pools, auto_stages, resolve_dtype
from deployments.config import AppConfig, Models
from deployments.core.errors import ModelUnavailable
from deployments.engines.families import ENGINES, Family
from deployments.weights.identify import identify
from deployments.weights.store import is_cached, probe_hubs

logger = logging.getLogger("ray.serve")

PARAFORMER, FALLBACK = "paraformer-zh", "whisper-small"


def family_of(ref: str) -> Family:
    """The family of a model, whose weights need not be here. Raises ModelUnavailable."""
    return ENGINES[identify(ref).family]


def resolve(config: AppConfig, nodes: Sequence[Node]) -> tuple[AppConfig, tuple[str, ...]]:
    """The configuration without any "auto", and notes for users about the choices.

    Raises pydantic's ValidationError if a choice and a given setting exclude each other, such as
    half precision and a machine without GPUs.
    """
    notes = config.notes
    models = config.models
    if models.asr == "auto":
        asr, note = choose_asr(models)
        models, notes = models.model_copy(update={"asr": asr}), (*notes, note)
        logger.warning(note)
    if config.dtype == "int8" or not family_of(models.asr).gpu:
        nodes = [replace(node, num_gpus=0.0, accelerator_type="") for node in nodes]
    dtype: str = config.dtype
    if (
        dtype == "auto"
        and config.pools != "auto"
        and not all(pool.num_gpus for pool in config.pools.values())
    ):
        dtype = "fp32"  # as on CPUs; all pools share one dtype (DESIGN, Number formats)
    elif dtype == "auto":
        dtype = resolve_dtype(nodes)
    update: dict[str, Any] = {"models": models, "dtype": dtype}
    if config.pools == "auto":
        counts = {
            "n_vad": config.vad.max_replicas,
            "n_punctuation": config.punctuation.max_replicas,
        }
        update["pools"] = auto_pools(nodes, dtype, **counts)
        vad_gpus, punctuation_gpus = auto_stages(nodes, dtype, **counts)
        update["vad"] = config.vad.model_copy(update={"num_gpus": vad_gpus})
        update["punctuation"] = config.punctuation.model_copy(update={"num_gpus": punctuation_gpus})
    resolved = AppConfig.model_validate(config.model_copy(update=update).model_dump())
    _refuse_gpu_where_useless(resolved)
    return resolved, notes


def choose_asr(models: Models) -> tuple[str, str]:
    """Paraformer if it is cached or a hub answers in 3 s, else the fallback; and a note."""
    needed = [PARAFORMER, *([models.punctuation] if models.punctuation else [])]
    if all(is_cached(ref, models.cache_dir) for ref in needed):
        return PARAFORMER, f"Serving {PARAFORMER} from the cache."
    hubs = [] if models.offline else probe_hubs(timeout_s=3.0)
    if hubs:
        return PARAFORMER, f"Serving {PARAFORMER}, to be downloaded from {hubs[0]}."
    return FALLBACK, (
        f"No model hub answers and {PARAFORMER} is not cached: serving {FALLBACK} instead, a "
        "smaller and less accurate model. For production place Paraformer's weights and name it."
    )


def cluster_nodes() -> list[Node]:
    """The machines of the Ray cluster. Without a connection to one: a machine of two cores."""
    if not ray.is_initialized():
        return [Node(num_cpus=2.0)]
    return nodes_of(ray.nodes())  # type: ignore[no-untyped-call]


def _refuse_gpu_where_useless(config: AppConfig) -> None:
    assert config.pools != "auto"
    on_gpu = [name for name, pool in config.pools.items() if pool.num_gpus > 0]
    if on_gpu and not family_of(config.models.asr).gpu:
        raise ModelUnavailable(
            config.models.asr,
            f"it runs on CPUs only, and pool {on_gpu[0]!r} declares a GPU. Serve {PARAFORMER}, or "
            "give the pool num_gpus: 0.",
        )
