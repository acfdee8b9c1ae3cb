"""What a replica costs an hour, for choosing between pools; a pool may state its own price."""

from __future__ import annotations

from cluster.profiles import profile

UNPRICED_GPU_USD = 0.5  # a card that no cloud rents: power, and a few years to pay for it
CPU_USD = 0.045  # a core of AWS's c7i


def replica_price(accelerator_type: str | None, *, num_gpus: float, num_cpus: float) -> float:
    """US dollars an hour for a replica's share of a card, or for its cores where it has no GPU."""
    if num_gpus > 0:
        price = profile(accelerator_type or "").price
        return num_gpus * (price.usd_per_h if price else UNPRICED_GPU_USD)
    return num_cpus * CPU_USD
