"""Packed rows: layers that mix rows stay inside an item, on a CPU's and on a GPU's way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deployments.engines.packed import Rows

CPU = torch.device("cpu")
LENGTHS = (3, 17, 1, 9)
DIM, N_HEADS = 16, 2


def layouts(lengths: tuple[int, ...] = LENGTHS) -> tuple[Rows, Rows]:
    return Rows(lengths, CPU, by_item=True), Rows(lengths, CPU, by_item=False)


def random_rows(n: int, dim: int = DIM, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lengths", [LENGTHS, (5,), (4, 4)])
@pytest.mark.parametrize("by_item", [True, False])
def test_padding_and_back_gives_the_same_rows(lengths: tuple[int, ...], by_item: bool) -> None:
    layout = Rows(lengths, CPU, by_item=by_item)
    rows = random_rows(sum(lengths))

    full = layout.pad(rows, extra=2)

    assert full.shape == (len(lengths), max(lengths) + 2, DIM)
    assert torch.equal(layout.unpad(full), rows)
    assert not full[:, : max(lengths)][~layout.mask].any()
    assert not full[:, max(lengths) :].any()


@pytest.mark.parametrize("lengths", [LENGTHS, (5,), (4, 4)])
def test_both_ways_attend_alike_and_like_the_formula(lengths: tuple[int, ...]) -> None:
    by_item, padded = layouts(lengths)
    keys_of = layouts(tuple(n + 2 for n in lengths))
    queries = random_rows(sum(lengths))
    keys, values = (random_rows(sum(lengths) + 2 * len(lengths), seed=s) for s in (1, 2))

    found = by_item.attend(queries, keys, values, keys_of[0], n_heads=N_HEADS)

    other = padded.attend(queries, keys, values, keys_of[1], n_heads=N_HEADS)
    torch.testing.assert_close(found, other)
    ours, theirs = list(by_item.items())[-1], list(keys_of[0].items())[-1]
    head = slice(0, DIM // N_HEADS)
    scores = queries[ours, head] @ keys[theirs, head].T / (DIM // N_HEADS) ** 0.5
    torch.testing.assert_close(found[ours, head], scores.softmax(-1) @ values[theirs, head])


@pytest.mark.parametrize("n_before", [0, 2, 4])
def test_both_ways_remember_alike_and_like_the_convolution(n_before: int) -> None:
    by_item, padded = layouts()
    block = nn.Conv1d(DIM, DIM, 5, groups=DIM, bias=False).requires_grad_(False)
    rows = random_rows(sum(LENGTHS))

    found = by_item.remember(rows, block, n_before)

    torch.testing.assert_close(found, padded.remember(rows, block, n_before))
    second = list(by_item.items())[1]
    alone = nn.functional.pad(rows[second].T[None], (n_before, 4 - n_before))
    torch.testing.assert_close(found[second], block(alone)[0].T + rows[second])


@pytest.mark.parametrize("by_item", [True, False])
def test_rows_that_all_items_share_are_attended_to_as_if_each_had_its_own(by_item: bool) -> None:
    rows = Rows(LENGTHS, CPU, by_item=by_item)
    queries = random_rows(sum(LENGTHS))
    keys, values = (random_rows(7, seed=s) for s in (1, 2))

    found = rows.attend(queries, keys, values, rows.of_shared(7), n_heads=N_HEADS)

    own_keys, own_values = (each.repeat(len(LENGTHS), 1) for each in (keys, values))
    expected = rows.attend(queries, own_keys, own_values, rows.of_equal(7), n_heads=N_HEADS)
    assert torch.equal(found, expected)
    padded = rows.of_shared(7).pad(keys, extra=2)
    assert torch.equal(padded, rows.of_equal(7).pad(own_keys, extra=2))
