"""The cheapest cards that together are fast enough: an exact search, pure.

Capacity adds up over cards, so it is a covering problem: the least price with the sum of speeds at
least what is needed. Depth first over the types, cheapest audio first, and a branch is left as soon
as even a fraction of the best remaining card would cost more than what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.cards import card_profile, card_speed, refusal
from cluster.traffic import PRIOR_TRUST
from deployments.core.errors import BadRequest

TOLERANCE = 1e-6  # audio s/s: of adding floats
DTYPES = ("fp16", "fp32")  # the first wins a tie


@dataclass(frozen=True, slots=True)
class Offer:
    """A type of card that can be rented."""

    name: str
    price: float  # an hour, in whatever currency the prices are
    speed: float  # audio seconds a second that are counted on


@dataclass(frozen=True, slots=True)
class Purchase:
    """How many of each type, what they cost an hour, and in which dtype they run."""

    counts: dict[str, int]
    price: float
    dtype: str


def cheapest(prices: Mapping[str, float], capacity: float) -> Purchase:
    """The cheapest cards with this capacity, audio seconds a second; one card at the least.

    All run one dtype: cards with Tensor Cores in fp16, or any cards in fp32. Raises BadRequest
    where no card with a price can take part.
    """
    found = [
        Purchase(counts, sum(prices[name] * n for name, n in counts.items()), dtype)
        for dtype in DTYPES
        if (counts := cover(offers(prices, dtype), capacity)) is not None
    ]
    if not found:
        raise BadRequest("no card that has a price can take part; give --prices 'T4=0.53,L4=0.80'")
    return min(found, key=lambda purchase: purchase.price)


def offers(prices: Mapping[str, float], dtype: str) -> list[Offer]:
    """What can be rented for an application of this dtype."""
    return [
        Offer(name, price, card_speed(card_profile(name), dtype) * PRIOR_TRUST)
        for name, price in prices.items()
        if refusal(name, dtype) is None
    ]


def cover(choice: Sequence[Offer], capacity: float) -> dict[str, int] | None:
    """name -> count at the least price with speeds that add up to `capacity`; None: no offer."""
    ordered = sorted(choice, key=lambda offer: (offer.price / offer.speed, -offer.speed))
    best = math.inf
    best_counts: dict[str, int] | None = None

    def search(k: int, left: float, price: float, n_cards: int, counts: dict[str, int]) -> None:
        nonlocal best, best_counts
        if left <= TOLERANCE and n_cards:
            if price < best:
                best, best_counts = price, counts
            return
        if k == len(ordered):
            return
        offer = ordered[k]
        if price + max(0.0, left) * offer.price / offer.speed >= best:
            return
        most = max(1 - min(n_cards, 1), math.ceil((left - TOLERANCE) / offer.speed))
        for n in range(most, -1, -1):
            taken = {**counts, offer.name: n} if n else counts
            search(k + 1, left - n * offer.speed, price + n * offer.price, n_cards + n, taken)

    search(0, capacity, 0.0, 0, {})
    return best_counts
