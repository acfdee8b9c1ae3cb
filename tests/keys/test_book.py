"""The accounts of all keys together: several ingresses, one that dies, and a new beginning."""

from __future__ import annotations

import pytest

from deployments.core.errors import LimitExceeded
from deployments.keys.book import Book
from deployments.keys.limits import DAY_S
from deployments.keys.messages import Left, Open, Used
from deployments.keys.records import Key, KeyLimits

TOM, ANN = "tom", "ann"


class Told:
    """A book with clocks that the test moves. Both keys may have two requests at a time."""

    def __init__(self, **limits: float) -> None:
        self.at_s = 0.0
        self.book = Book(lambda: self.at_s, lambda: 20_000 * DAY_S + self.at_s)
        kept = KeyLimits(**({"max_concurrent": 2} | limits))  # type: ignore[arg-type]
        self.book.change_keys({id: Key(id, id, "hash", limits=kept) for id in (TOM, ANN)})

    def n_let_in(self, *ingresses: str, key: str = TOM) -> int:
        """How many of a crowd, one for each ingress that is named, are let in."""
        n = 0
        for number, ingress in enumerate(ingresses):
            try:
                self.book.enter(ingress, f"{key}{number}{self.at_s}", key, 0)
                n += 1
            except LimitExceeded:
                continue
        return n


def opened(*permits: str) -> dict[str, Open]:
    return {permit: Open(TOM, 0, 1.0) for permit in permits}


def test_a_key_is_counted_over_all_ingresses_and_each_key_for_itself() -> None:
    told = Told()

    assert told.n_let_in("a", "b", "a", "b") == 2
    assert told.n_let_in("a", "b", "a", "b", key=ANN) == 2


def test_the_requests_of_an_ingress_that_died_end_after_some_seconds() -> None:
    told = Told()
    told.n_let_in("a", "a")

    told.at_s = 9
    still_full = told.n_let_in("b")
    told.at_s = 11

    assert (still_full, told.n_let_in("b", "b", "b")) == (0, 2)


def test_requests_that_are_told_of_stay_open() -> None:
    told = Told()
    told.book.enter("a", "long", TOM, 0)
    told.book.enter("a", "lost", TOM, 0)
    for _ in range(20):
        told.at_s += 2
        told.book.hear("a", opened("long"))
        told.book.tidy()

    assert told.n_let_in("a", "a") == 1


def test_a_new_book_learns_what_is_open_from_the_next_telling() -> None:
    told = Told()

    told.book.hear("a", opened("one", "two"))

    assert told.n_let_in("b") == 0


def test_a_request_that_has_left_does_not_come_back_with_an_older_telling() -> None:
    told = Told()
    told.book.enter("a", "one", TOM, 0)

    told.book.leave(Left("one", TOM))
    told.book.hear("a", opened("one"))

    assert told.n_let_in("a", "a", "a") == 2


def test_a_request_is_charged_once_however_often_its_end_is_told() -> None:
    told = Told()

    for _ in range(3):
        told.book.leave(Left("one", TOM, "paraformer-zh", 1500))
    told.book.leave(Left("two", TOM, "paraformer-zh", 500))
    told.book.leave(Left("nothing heard", TOM))

    assert told.book.take() == [Used("2024-10-04", TOM, "paraformer-zh", 2000, 2)]
    assert told.book.take() == []


def test_what_could_not_be_written_is_written_with_the_next() -> None:
    told = Told()
    told.book.leave(Left("one", TOM, "m", 1500))
    taken = told.book.take()
    told.book.leave(Left("two", TOM, "m", 1))

    told.book.put_back(taken)

    assert told.book.take() == [Used("2024-10-04", TOM, "m", 1501, 2)]


def test_the_usage_of_the_database_counts_for_its_day_only() -> None:
    told = Told(audio_s_per_day=10)
    told.book.begin([Used(told.book.today, TOM, m, 5000, 1) for m in ("one", "another")])

    today = told.n_let_in("a")
    told.at_s = DAY_S

    assert (today, told.n_let_in("a")) == (0, 1)


def test_the_end_of_a_revoked_key_is_still_noted() -> None:
    told = Told()
    told.book.enter("a", "one", TOM, 0)
    told.book.change_keys({})

    told.book.leave(Left("one", TOM, "m", 1000))

    assert [used.audio_ms for used in told.book.take()] == [1000]
    with pytest.raises(KeyError):
        told.book.enter("a", "two", TOM, 0)
