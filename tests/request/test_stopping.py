"""A service that is being stopped, at the dispatcher. `tests/e2e/test_drain.py` has the whole."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from deployments.core.errors import Draining
from deployments.core.request_id import new_request_id
from tests.test_dispatcher import new_dispatcher


def test_a_service_that_is_stopped_refuses_what_arrives_later() -> None:
    async def stopped() -> tuple[dict[str, Any], list[str]]:
        dispatcher, refused = new_dispatcher(), []
        earlier, known = new_request_id(), new_request_id()
        await dispatcher.submit(known, {0: 1_000}, False, 10_000)
        await dispatcher.drain(time.time() + 0.01)
        await asyncio.sleep(0.05)
        for request, again in ((earlier, False), (known, True), (new_request_id(), False)):
            try:
                await dispatcher.submit(request, {1: 1_000}, again, 0)
            except Draining:
                refused.append(request)
        assert refused not in ([earlier], [known])
        return await dispatcher.snapshot(), refused

    body, refused = asyncio.run(stopped())

    assert len(refused) == 1
    assert body["draining"]
    assert body["requests"] == 2
