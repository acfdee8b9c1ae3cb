"""Finds the cheapest cards that together are fast enough, by exact search. Pure.

The speeds of cards add up. So this is a covering problem: find the least price for which the speeds
sum to at least the need. The search goes depth first over the types of cards, those with the
cheapest audio first. For each branch it computes a lower bound of the price, as if a fraction of
the best remaining card could be bought. It leaves the branch if the bound is not below the best
price found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.planning.cards import card_profile, card_speed, refusal
from cluster.planning.traffic import PRIOR_TRUST
from deployments.core.errors import BadRequest

TOLERANCE = 1e-6  # audio s/s; rounding errors of sums
DTYPES = ("fp16", "fp32")  # the first wins a tie


@dataclass(frozen=True, slots=True)
class Offer:
    """A type of card that can be rented."""

    name: str
    price: float  # per hour, in the currency of all prices
    speed: float  # audio seconds per second that the plan counts on


@dataclass(frozen=True, slots=True)
class Purchase:
    """How many cards of each type to rent, their price per hour, and the dtype they run."""

    counts: dict[str, int]
    price: float
    dtype: str


def cheapest(prices: Mapping[str, float], capacity: float) -> Purchase:
    """The cheapest cards, at least one, with this capacity in audio seconds per second.

    All cards run one dtype: cards with Tensor Cores fp16, or any cards fp32. Raises BadRequest
    if no card with a price can serve.
    """
    found = [
        Purchase(counts, sum(prices[name] * n for name, n in counts.items()), dtype)
        for dtype in DTYPES
        if (counts := cover(offers(prices, dtype), capacity)) is not None
    ]
    if not found:
        raise BadRequest("no card that has a price can serve; give --prices 'T4=0.53,L4=0.80'")
    return min(found, key=lambda purchase: purchase.price)


def offers(prices: Mapping[str, float], dtype: str) -> list[Offer]:
    """The cards with a price that can serve in an application of this dtype."""
    return [
        Offer(name, price, card_speed(card_profile(name), dtype) * PRIOR_TRUST)
        for name, price in prices.items()
        if refusal(name, dtype) is None
    ]


def cover(choice: Sequence[Offer], capacity: float) -> dict[str, int] | None:
    """Name -> count of the cheapest cards whose speeds reach `capacity`; None without an offer."""
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
