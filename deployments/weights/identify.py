"""Finds a model's name and family without fetching its weights, for planning the deployments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployments.core.errors import ModelUnavailable
from deployments.weights.catalog import CATALOG
from deployments.weights.local import weights_in


@dataclass(frozen=True, slots=True)
class Identity:
    """The name to show to users, and the engine family that runs the model."""

    name: str
    family: str


def identify(ref: str) -> Identity:
    """The identity of an id of the catalogue, a directory, or a `fake:` model of the tests.

    Raises ModelUnavailable for anything else.
    """
    if ref.startswith("fake:"):
        return Identity(ref, ref.replace(":", "-"))
    if ref in CATALOG:
        return Identity(CATALOG[ref].name, CATALOG[ref].family)
    if Path(ref).is_dir():
        weights = weights_in(Path(ref))
        return Identity(weights.name, weights.family)
    raise ModelUnavailable(
        ref, f"it is neither a directory nor one of the models {', '.join(CATALOG)}."
    )
