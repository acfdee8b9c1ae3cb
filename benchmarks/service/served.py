"""The models and the configuration with which benchmarks start the service."""

from __future__ import annotations

from pathlib import Path

from benchmarks.material.model_files import asr_tokens, punctuation_tokens
from benchmarks.material.random_models import (
    PUNC_SHAPES,
    TRUE_ASR_TOKENS,
    Asr,
    Punc,
    Size,
    write_paraformer,
    write_punctuation,
    write_vad,
)
from benchmarks.results import say
from deployments.config import AppConfig, Dtype, Models, Pool
from deployments.core.errors import ModelUnavailable
from deployments.weights.store import ensure

POOL = "cpu"
REAL_VAD = "fsmn-vad"


def make_models(root: Path, *, size: Size, punctuation: Punc = Punc.ZH) -> Models:
    """Writes SeACo-Paraformer and CT-Transformer with random weights; takes the real VAD if it can.

    Even tiny networks have vocabularies of the true size. With a small one every word would be
    unknown and no mark would ever be set. The unfinished sentence, which each step reads again,
    would then grow without end.
    """
    say(f"Writing models of {size} geometry ...")
    asr = write_paraformer(
        root / "asr", kind=Asr.SEACO, size=size, tokens=asr_tokens(TRUE_ASR_TOKENS)
    )
    words = punctuation_tokens(PUNC_SHAPES[size, punctuation][-1])
    punc = write_punctuation(root / "punc", variant=punctuation, size=size, tokens=words)
    try:
        vad = str(ensure(REAL_VAD).path)
    except ModelUnavailable as error:
        say(f"{error}\nThe VAD has random weights instead.")
        vad = str(write_vad(root / "vad", size=Size.LARGE))
    return Models(vad=vad, asr=str(asr), punctuation=str(punc), offline=True)


def configuration(models: Models, pool: Pool, *, dtype: Dtype = "fp32") -> AppConfig:
    """The default configuration with these models and only this pool."""
    return AppConfig(models=models, pools={POOL: pool}, dtype=dtype)
