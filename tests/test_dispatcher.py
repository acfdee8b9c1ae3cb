"""What the dispatcher reports is what the autoscaling policy reads."""

from __future__ import annotations

import asyncio

from cluster.autoscaling import ACCEPTED, BACKLOG, DRAIN, GIVE_BACK, PRICE, SPEED, START
from deployments.config import AutoscalingSettings, DispatcherSettings
from deployments.core.planning import PoolSpec
from deployments.dispatcher import Dispatcher

SPEC = PoolSpec("T4", 60_000, 100.0, 50, 8, 30_000, price_per_hour=0.25)


def test_the_report_has_every_figure_under_the_name_that_the_policy_reads() -> None:
    aims = AutoscalingSettings(drain_s=60, give_back_after_s=300)
    dispatcher = Dispatcher([SPEC], DispatcherSettings(), {"T4": "Asr-T4"}, aims)

    report = asyncio.run(dispatcher.record_autoscaling_stats())

    assert report == {
        BACKLOG: 0.0,
        ACCEPTED: 0.0,
        DRAIN: 60.0,
        GIVE_BACK: 300.0,
        f"{SPEED}Asr-T4": 100.0,
        f"{PRICE}Asr-T4": 0.25,
        f"{START}Asr-T4": 30.0,
    }
