"""The cards of the fake nodes, and the pools, priors and sleeping times that go with them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

from benchmarks.dispatch.fleets import A10G, A100, L4, T4, Gpu
from deployments.config import AppConfig

CARDS: dict[str, Gpu] = {"T4": T4, "L4": L4, "A10G": A10G, "A100": A100}
FLEET = ("T4", "T4", "L4", "A10G", "A100")  # one replica each; the T4s are one pool
KINDS = {name: i + 1 for i, name in enumerate(CARDS)}  # `num_threads` tells the engine its card
STAGE_CPUS = 1.5  # more than a GPU node has, so that all stages run on the head


def prompt(cards: Mapping[str, Gpu], *, slow_down: float = 1.0) -> str:
    """A prompt that tells FakeTimedAsr how long the batches of each card take."""
    return json.dumps(
        {
            KINDS[name]: [gpu.overhead_s * 1000 * slow_down, gpu.speed / slow_down]
            for name, gpu in cards.items()
        }
    )


def wrong_priors(seed: int, *, error: float) -> dict[str, tuple[float, float]]:
    """For each card the factors by which its speed and its overhead are configured wrongly."""
    rng = random.Random(seed)
    return {
        n: (rng.choice((1 - error, 1 + error)), rng.choice((1 - error, 1 + error))) for n in CARDS
    }


def config(
    priors: Mapping[str, tuple[float, float]], *, slow_down: float = 1.0, n_t4: int = 2
) -> AppConfig:
    """One pool for each card: that of the T4 has `n_t4` replicas, the others have one."""
    pools = {
        name: {
            "num_cpus": 0.4,
            "num_threads": KINDS[name],
            "node_labels": {"card": name},
            "min_replicas": n_t4 if name == "T4" else 1,
            "max_replicas": 2 if name == "T4" else 1,
            "batch_audio_s": gpu.batch_audio_s,
            "speed": gpu.speed * priors[name][0] / slow_down,
            "overhead_ms": gpu.overhead_s * 1000 * priors[name][1] * slow_down,
        }
        for name, gpu in CARDS.items()
    }
    models = {"vad": "fake:vad", "asr": "fake:timed", "punctuation": None}
    return AppConfig.model_validate(
        {
            "models": models,
            "dtype": "fp32",
            "pools": pools,
            "vad": {"num_cpus": STAGE_CPUS},
            "dispatcher": {"num_cpus": STAGE_CPUS, "poll_s": 0.5},
        }
    )
