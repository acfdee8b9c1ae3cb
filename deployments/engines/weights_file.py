"""Reads the tensors of a checkpoint, in either of torch's formats and in every layout."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from deployments.core.errors import ModelUnavailable

# The keys under which trainers store the weights, beside their own state.
WRAPPERS = ("state_dict", "model_state_dict", "model")
# What DistributedDataParallel and torch.compile put in front of each name.
PREFIXES = ("module.", "_orig_mod.")
CODE_NEEDED = ("Unsupported global", "Unsupported class")  # torch's words for such an object
ZIP_MAGIC = b"PK\x03\x04"


def is_archive(path: Path) -> bool:
    """Whether the file has torch's format since 1.6, which can be mapped into memory."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, without the wrappers that trainers add.

    Reads both of torch's formats: a zip archive, and the series of pickles from before torch 1.6.
    Only an archive can be mapped into memory. No code of the file is run. Raises ModelUnavailable
    if the file holds anything that only code could rebuild, or no tensors.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive(path))
    except pickle.UnpicklingError as error:
        if not any(word in str(error) for word in CODE_NEEDED):
            raise
        raise ModelUnavailable(
            name,
            f"{path} holds Python objects beside its tensors, and these are not read because they "
            f"could run code. Save its `state_dict()` alone with `torch.save`. ({one_line(error)})",
        ) from error
    while isinstance(stored, Mapping):
        inner = [stored[key] for key in WRAPPERS if isinstance(stored.get(key), Mapping)]
        if not inner:
            break
        stored = inner[0]
    if not isinstance(stored, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in stored.items()
    ):
        raise ValueError(f"{path.name} holds no mapping from names to tensors")
    return {without_prefixes(key): value for key, value in stored.items()}


def without_prefixes(key: str) -> str:
    """The name of a weight without what training in parallel put in front of it."""
    while key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


def one_line(error: Exception) -> str:
    """The line of torch's long explanation that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line]
    return lines[0] if lines else type(error).__name__
