"""Reading a text from several places at once has the result of reading from the beginning."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.engines.ct_transformer.pieces import Found, Pieces, Place


def marks_of(seed: int, p_mark: float, begin: int, end: int) -> list[str]:
    """A network's marks, some of which depend on where the sentence begins or the text ends."""

    def mark(i: int) -> str:
        rng = random.Random(
            f"{seed} {i} {begin % 3 if i % 4 == 0 else 0} {end if i % 5 == 0 else 0}"
        )
        return rng.choice("。？，、") if rng.random() < p_mark else "_"

    return [mark(i) for i in range(begin, end)]


def read(pieces: Pieces, n_readers: int, seed: int, p_mark: float) -> list[tuple[Place, Found]]:
    """The steps that count, after all of them were computed."""
    n_rounds_of(pieces, n_readers, seed, p_mark)
    return list(pieces.path())


def n_rounds_of(pieces: Pieces, n_readers: int, seed: int, p_mark: float) -> int:
    """Reads a text to its end; returns how often the network was asked."""
    pieces.share(n_readers)
    n_rounds = 0
    while wanted := pieces.wanted():
        assert len(wanted) == len(set(wanted)) <= n_readers
        n_rounds += 1
        for place in wanted:
            pieces.record(place, marks_of(seed, p_mark, place.begin, pieces.end(place)))
    return n_rounds


@pytest.mark.slow
@given(
    n_carry=st.integers(0, 30),
    n_new=st.integers(0, 900),
    final=st.booleans(),
    n_readers=st.integers(2, 9),
    seed=st.integers(0, 10_000),
    p_mark=st.sampled_from([0.0, 0.01, 0.1, 0.6]),
)
@settings(max_examples=60, deadline=None)
def test_the_steps_do_not_depend_on_the_number_of_readers(
    n_carry: int, n_new: int, final: bool, n_readers: int, seed: int, p_mark: float
) -> None:
    one, many = (Pieces(n_carry, n_carry + n_new, final, 20, "。") for _ in range(2))

    alone = read(one, 1, seed, p_mark)

    assert read(many, n_readers, seed, p_mark) == alone
    assert len(alone) == len(one)


def test_several_readers_share_a_long_text() -> None:
    pieces = Pieces(0, 2000, True, 20, "。")

    n_rounds = n_rounds_of(pieces, 4, seed=0, p_mark=0.1)

    assert len(list(pieces.path())) == 100
    assert n_rounds < 40


def test_a_short_text_has_one_reader() -> None:
    pieces = Pieces(0, 300, True, 20, "。")
    pieces.share(4)

    assert pieces.wanted() == [Place(0, 0)]
