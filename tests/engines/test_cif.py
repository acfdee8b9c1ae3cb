"""Integrate-and-fire: the scan of a GPU against the compiled loop, and both against FunASR's."""

from __future__ import annotations

import pytest
import torch
from funasr.models.bicif_paraformer.cif_predictor import cif

from deployments.engines.cif import DOUBT, scan, scanned_weights, token_weights

N_ROWS, N_FRAMES = 4000, 300


def rows(seed: int, n_rows: int = N_ROWS) -> torch.Tensor:
    """Weights of frames as a predictor gives them, at several speeds of speech, and the tail."""
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
def test_the_scan_fires_on_the_frames_of_the_loop_wherever_it_does_not_doubt(seed: int) -> None:
    alphas = rows(seed)
    found = scan(alphas)
    max_tokens = int(found.n_tokens.max())

    scanned = scanned_weights(found, found.n_tokens, max_tokens)

    sure = ~found.doubtful
    looped = token_weights(alphas.numpy(), found.n_tokens.numpy(), threshold=1.0)
    torch.testing.assert_close(
        scanned[sure], torch.from_numpy(looped)[sure], atol=DOUBT, rtol=0, check_stride=False
    )
    assert torch.equal(scanned[sure] > DOUBT, torch.from_numpy(looped)[sure] > DOUBT)


def test_what_only_rounding_decides_is_doubted_and_little_else_is() -> None:
    tenths = torch.full((1, 40), 0.1)
    random = scan(rows(4)[N_ROWS // 10 :])

    assert bool(scan(tenths).doubtful[0])
    assert not bool(scan(torch.full((1, 40), 0.3)[:, :8]).doubtful[0])
    assert random.doubtful.float().mean() < 0.1


def test_a_weight_above_one_is_for_the_loop_to_decide() -> None:
    alphas = torch.tensor([[0.3, 0.4, 0.35], [0.3, 1.4, 0.35]])

    assert scan(alphas).doubtful.tolist() == [False, True]


def test_a_row_does_not_depend_on_its_batch_or_padding() -> None:
    alphas = rows(5, n_rows=50)

    together = scan(alphas)

    alone = [scan(row[None, : int(row.nonzero()[-1]) + 1]) for row in alphas]
    assert together.n_tokens.tolist() == [int(one.n_tokens) for one in alone]
    assert together.doubtful.tolist() == [bool(one.doubtful) for one in alone]


def test_the_loop_gives_funasrs_vectors() -> None:
    alphas = rows(6, n_rows=20)[2:]
    hidden = torch.randn(len(alphas), N_FRAMES, 8)
    n_tokens = alphas.sum(1).floor().long()

    weights = token_weights(alphas.numpy(), n_tokens.numpy(), threshold=1.0)

    for row in range(len(alphas)):
        theirs, _ = cif(hidden[row : row + 1], alphas[row : row + 1], 1.0)
        n = int(n_tokens[row])
        ours = torch.from_numpy(weights)[row, :n] @ hidden[row]
        torch.testing.assert_close(ours, theirs[0, :n], atol=1e-4, rtol=1e-4)
