"""The fake hub that the tests of weights download from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.weights.fake_hub import FakeHub, serving
from tests.weights.samples import CONTENTS, REPO


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """Both hubs, which hold the tiny model."""
    with serving(FakeHub(repos={REPO: dict(CONTENTS)})) as hub:
        yield hub
