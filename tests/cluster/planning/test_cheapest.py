"""The search for the cheapest fleet, compared with trying every choice."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.planning.cheapest import Offer, cheapest, cover
from cluster.profiles import PROFILES
from deployments.core.errors import BadRequest

OFFERS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(100, 2000)), min_size=1, max_size=3
).map(lambda rows: [Offer(f"card {i}", p / 10, s) for i, (p, s) in enumerate(rows)])


@given(OFFERS, st.integers(0, 1500))
def test_no_other_choice_of_cards_is_cheaper(choice: list[Offer], capacity: int) -> None:
    counts = cover(choice, capacity)

    enough = range(math.ceil(capacity / min(o.speed for o in choice)) + 2)
    prices = [
        sum(o.price * n for o, n in zip(choice, many, strict=True))
        for many in itertools.product(enough, repeat=len(choice))
        if any(many) and sum(o.speed * n for o, n in zip(choice, many, strict=True)) >= capacity
    ]
    assert counts is not None
    by_name = {offer.name: offer for offer in choice}
    assert sum(by_name[name].speed * n for name, n in counts.items()) >= capacity
    assert sum(by_name[name].price * n for name, n in counts.items()) == pytest.approx(min(prices))


def test_two_small_cards_are_bought_if_cheaper_than_one_large_card() -> None:
    choice = [Offer("small", 1.0, 100.0), Offer("large", 2.5, 240.0)]

    assert cover(choice, 200.0) == {"small": 2}
    assert cover(choice, 240.0) == {"large": 1}
    assert cover(choice, 340.0) == {"large": 1, "small": 1}


def test_the_search_over_the_whole_table_for_a_thousand_cards_is_quick() -> None:
    choice = [
        Offer(name, 0.3 + card.tflops**0.9 / 60, card.speed) for name, card in PROFILES.items()
    ]
    began_s = time.process_time()

    assert cover(choice, 1000 * 4000.0)
    assert time.process_time() - began_s < 5.0


def test_a_card_without_tensor_cores_is_bought_only_if_fp32_is_cheaper() -> None:
    cheap_fp32 = cheapest({"P100": 0.01, "T4": 5.0}, 300.0)
    cheap_fp16 = cheapest({"P100": 1.0, "T4": 0.5}, 300.0)

    assert (cheap_fp32.counts, cheap_fp32.dtype) == ({"P100": 2}, "fp32")
    assert (cheap_fp16.counts, cheap_fp16.dtype) == ({"T4": 1}, "fp16")


def test_without_a_usable_card_the_error_names_the_option_for_prices() -> None:
    with pytest.raises(BadRequest, match="--prices"):
        cheapest({"GeForce-GTX-1650": 0.1}, 100.0)
