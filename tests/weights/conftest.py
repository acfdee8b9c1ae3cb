from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.weights.fake_hub import FakeHub, serving
from tests.weights.samples import CONTENTS, REPO


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """Both hubs, with the tiny model in them."""
    with serving(FakeHub(repos={REPO: dict(CONTENTS)})) as hub:
        yield hub
