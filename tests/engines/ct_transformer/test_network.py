"""The forward pass without padding, compared with FunASR's own for each text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from deployments.engines.checkpoint import load_checkpoint
from deployments.engines.ct_transformer.network import PackedSanm, check
from tests.engines.reference import TIE_LOGIT_GAP

LENGTHS = (1, 2, 4, 5, 6, 11, 12, 20, 21, 90, 220, 1)
RNG = random.Random(0)
TEXTS = [[RNG.randrange(3, 199) for _ in range(n)] for n in LENGTHS]


@pytest.mark.parametrize("padded_attention", [False, True])
def test_each_text_has_the_logits_that_funasr_gives_it_alone(
    punctuation_dir: Path, padded_attention: bool
) -> None:
    model = load_checkpoint(punctuation_dir, "punc", classes=("CTTransformer",)).model
    network = PackedSanm(model, padded_attention=padded_attention)
    with torch.inference_mode():
        alone = [model.punc_forward(torch.tensor([t]), torch.tensor([len(t)]))[0] for t in TEXTS]

    found = network.logits(TEXTS)

    assert [tuple(logits.shape) for logits in found] == [(n, 6) for n in LENGTHS]
    worst = max(float((a[0] - b).abs().max()) for a, b in zip(alone, found, strict=True))
    assert worst < TIE_LOGIT_GAP / 10


def test_marks_are_divided_among_the_texts(punctuation_dir: Path) -> None:
    model = load_checkpoint(punctuation_dir, "punc", classes=("CTTransformer",)).model
    network = PackedSanm(model, padded_attention=False)

    together = network.best_marks(TEXTS)

    assert together == [network.best_marks([text])[0] for text in TEXTS]
    assert len({mark for marks in together for mark in marks}) > 1


def test_an_encoder_of_another_make_is_refused(punctuation_dir: Path) -> None:
    model = load_checkpoint(punctuation_dir, "punc", classes=("CTTransformer",)).model
    model.encoder.normalize_before = False

    with pytest.raises(ValueError, match="published"):
        check(model.encoder)
