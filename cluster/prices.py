"""What a replica costs an hour, for choosing between pools; a pool may state its own price."""

from __future__ import annotations

# US dollars an hour and GPU, on demand, AWS us-east-1 (g4dn, p3, g5, g6, g6e, p4d, p4de, p5, p5en,
# p6-b200; the price of the instance over its GPUs), the A10 at Lambda. Only their order matters.
GPU_USD = {
    "T4": 0.526,
    "V100": 3.06,
    "A10": 0.75,
    "A10G": 1.006,
    "L4": 0.805,
    "L40S": 1.861,
    "A100": 2.745,
    "A100-40G": 2.745,
    "A100-80G": 3.43,
    "H100": 6.88,
    "H200": 7.912,
    "B200": 14.242,
}
UNKNOWN_GPU_USD = 0.5  # a card of one's own: power, and a few years to pay for it
CPU_USD = 0.045  # a core of AWS's c7i


def replica_price(accelerator_type: str | None, *, num_gpus: float, num_cpus: float) -> float:
    """US dollars an hour for a replica's share of a card, or for its cores where it has no GPU."""
    if num_gpus > 0:
        return num_gpus * GPU_USD.get(accelerator_type or "", UNKNOWN_GPU_USD)
    return num_cpus * CPU_USD
