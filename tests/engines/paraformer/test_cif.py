"""Integrate-and-fire: a GPU's prefix sum, the compiled loop, and FunASR's own agree."""

from __future__ import annotations

import pytest
import torch
from funasr.models.bicif_paraformer.cif_predictor import cif

from deployments.engines.paraformer.cif import DOUBT, find_fires, scanned_weights, token_weights

N_ROWS, N_FRAMES = 4000, 300


def rows(seed: int, n_rows: int = N_ROWS) -> torch.Tensor:
    """Frame weights as a predictor gives them, with a tail, at several speeds of speech."""
    generator = torch.Generator().manual_seed(seed)
    speed = torch.rand(n_rows, 1, generator=generator)
    alphas = torch.rand(n_rows, N_FRAMES, generator=generator) * speed
    alphas[: n_rows // 10] = alphas[: n_rows // 10].round()  # zeros and ones
    lengths = torch.randint(1, N_FRAMES, (n_rows,), generator=generator)
    alphas[torch.arange(N_FRAMES) > lengths[:, None]] = 0.0
    alphas[torch.arange(n_rows), lengths] = 0.45
    return alphas


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_prefix_sum_fires_on_the_frames_of_the_loop_wherever_it_does_not_doubt(
    seed: int,
) -> None:
    alphas = rows(seed)
    fires = find_fires(alphas)
    max_tokens = int(fires.n_tokens.max())

    scanned = scanned_weights(fires, fires.n_tokens, max_tokens)

    sure = ~fires.doubtful
    looped = token_weights(alphas.numpy(), fires.n_tokens.numpy(), threshold=1.0)
    torch.testing.assert_close(
        scanned[sure], torch.from_numpy(looped)[sure], atol=DOUBT, rtol=0, check_stride=False
    )
    assert torch.equal(scanned[sure] > DOUBT, torch.from_numpy(looped)[sure] > DOUBT)


def test_what_only_rounding_decides_is_doubted_and_little_else_is() -> None:
    tenths = torch.full((1, 40), 0.1)
    random = find_fires(rows(4)[N_ROWS // 10 :])

    assert bool(find_fires(tenths).doubtful[0])
    assert not bool(find_fires(torch.full((1, 40), 0.3)[:, :8]).doubtful[0])
    assert random.doubtful.float().mean() < 0.1


def test_a_weight_above_one_is_for_the_loop_to_decide() -> None:
    alphas = torch.tensor([[0.3, 0.4, 0.35], [0.3, 1.4, 0.35]])

    assert find_fires(alphas).doubtful.tolist() == [False, True]


def test_a_row_does_not_depend_on_its_batch_or_padding() -> None:
    alphas = rows(5, n_rows=50)

    together = find_fires(alphas)

    alone = [find_fires(row[None, : int(row.nonzero()[-1]) + 1]) for row in alphas]
    assert together.n_tokens.tolist() == [int(one.n_tokens) for one in alone]
    assert together.doubtful.tolist() == [bool(one.doubtful) for one in alone]


def test_the_loop_gives_funasrs_vectors() -> None:
    alphas = rows(6, n_rows=20)[2:]
    hidden = torch.randn(len(alphas), N_FRAMES, 8)
    n_tokens = alphas.sum(1).floor().long()

    weights = token_weights(alphas.numpy(), n_tokens.numpy(), threshold=1.0)

    theirs = [cif(hidden[i : i + 1], alphas[i : i + 1], 1.0)[0][0] for i in range(len(alphas))]
    ours = torch.from_numpy(weights) @ hidden
    expected = [vectors[:n] for vectors, n in zip(theirs, n_tokens.tolist(), strict=True)]
    found = [vectors[:n] for vectors, n in zip(ours, n_tokens.tolist(), strict=True)]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
