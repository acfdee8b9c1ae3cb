"""`punctuation`: the CT-Transformer engine against FunASR's `AutoModel.generate`, same weights.

Both sides run in this process, in turns. A figure is the median over the rounds: of CPU time on one
thread, or of wall time where a GPU does the work. FunASR reads one document after another; the
engine reads all in one call. The disagreement of the windowed mode is that of random weights, whose
marks depend on every word that they see. It says nothing of trained weights.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from benchmarks.engines.automodel import FUNASR_THREADS, AutoModelAlone
from benchmarks.material.model_files import punctuation_tokens
from benchmarks.material.random_models import PUNC_SHAPES, Punc, Size, write_punctuation
from benchmarks.results import Figures
from deployments.core.text import join_words
from deployments.core.types import MarkedWord, PunctuationTask, Word
from deployments.engines.ct_transformer.engine import CtTransformer
from deployments.engines.protocols import EngineSettings, PunctuationEngine

P_FOREIGN = 0.05  # part of the words; the rest are Chinese characters
SPREAD = 0.5  # part of its length by which a document may be longer or shorter
SEED = 7
# A GPU needs no waiting before the clock is read: the texts are on the host when a call returns.
CLOCKS = {"cpu": time.process_time, "cuda": time.perf_counter}
# Threads of FunASR. CPU time is fair with one thread; wall time is fair with FunASR's default.
THREADS = {"cpu": 1, "cuda": FUNASR_THREADS}

Document = tuple[str, ...]


def run(
    documents: Annotated[int, typer.Option(help="Documents in the batch.")] = 16,
    words: Annotated[int, typer.Option(help="Words of a document, give or take half.")] = 300,
    long_words: Annotated[int, typer.Option(help="Words of the one long document.")] = 3000,
    repeats: Annotated[int, typer.Option(help="Rounds; the figures are their medians.")] = 5,
    size: Annotated[Size, typer.Option(help="Geometry of the network.")] = Size.LARGE,
    punctuation: Annotated[Punc, typer.Option(help="Kind of CT-Transformer.")] = Punc.ZH,
    device: Annotated[str, typer.Option(help="cuda or cpu, for both sides.")] = "cpu",
) -> Figures:
    """A batch of documents, and one long document, against FunASR, which reads one at a time."""
    rng = random.Random(SEED)
    vocabulary = punctuation_tokens(PUNC_SHAPES[size, punctuation][-1])
    lengths = [round(words * rng.uniform(1 - SPREAD, 1 + SPREAD)) for _ in range(documents)]
    many = [drawn_document(n, vocabulary, rng) for n in lengths]
    long = [drawn_document(long_words, vocabulary, rng)]
    with TemporaryDirectory() as root:
        model_dir = write_punctuation(
            Path(root) / "punc", variant=punctuation, size=size, tokens=vocabulary
        )
        n_threads = THREADS[device]
        theirs = AutoModelAlone(model_dir, device=device, n_cpu=n_threads)
        settings = EngineSettings(device=device, num_threads=1)
        engine = CtTransformer(model_dir, settings)
        windowed = CtTransformer(model_dir, replace(settings, punctuation="windowed"))

    clock = CLOCKS[device]
    both = partial(compared, funasr=theirs, repeats=repeats, clock=clock, n_threads=n_threads)
    of_many = both(engine, documents=many)
    of_long = both(engine, documents=long)
    of_windowed = both(windowed, documents=long)
    n_words = sum(lengths)
    return {
        "weights": f"random, {size}, {punctuation}, dtype fp32",
        "device": device,
        "documents": documents,
        "words_in_batch": n_words,
        "words_in_long": long_words,
        "repeats": repeats,
        f"batch{documents}_speedup": of_many.speedup,
        "batch1_speedup": of_long.speedup,
        "windowed_speedup": of_windowed.speedup,
        "windowed_disagreement": disagreement(engine, windowed, long),
        "identical": int(of_many.n_different + of_long.n_different == 0),
        "documents_that_differ": of_many.n_different + of_long.n_different,
        "funasr_ms_per_1000_words": of_many.theirs_s / n_words * 1e6,
        "batch_ms_per_1000_words": of_many.ours_s / n_words * 1e6,
        "funasr_long_ms_per_1000_words": of_long.theirs_s / long_words * 1e6,
        "long_ms_per_1000_words": of_long.ours_s / long_words * 1e6,
        "windowed_ms_per_1000_words": of_windowed.ours_s / long_words * 1e6,
    }


def drawn_document(n_words: int, vocabulary: Sequence[str], rng: random.Random) -> Document:
    """Words drawn from the vocabulary, most of them Chinese characters."""
    known = vocabulary[3:-1]  # without the specials
    chinese = [word for word in known if not word.isascii()]
    foreign = [word for word in known if word.isascii()]
    return tuple(
        rng.choice(foreign) if rng.random() < P_FOREIGN else rng.choice(chinese)
        for _ in range(n_words)
    )


class Compared:
    """Seconds of both sides, round by round, and how many documents came out different."""

    def __init__(self) -> None:
        self.rounds: list[tuple[float, float]] = []
        self.n_different = 0

    @property
    def speedup(self) -> float:
        return median(theirs / ours for ours, theirs in self.rounds)

    @property
    def ours_s(self) -> float:
        return median(ours for ours, _ in self.rounds)

    @property
    def theirs_s(self) -> float:
        return median(theirs for _, theirs in self.rounds)


def compared(
    engine: PunctuationEngine,
    funasr: AutoModelAlone,
    documents: Sequence[Document],
    *,
    repeats: int,
    clock: Callable[[], float] = time.process_time,
    n_threads: int = 1,
) -> Compared:
    """Both sides on the same documents, in turns, after a warm-up.

    FunASR has `n_threads` threads, the engine one.
    """
    torch.set_num_threads(1)
    texts = [" ".join(document) for document in documents]
    found, expected = punctuated(engine, documents), generated(funasr, texts)
    result = Compared()
    result.n_different = sum(ours != theirs for ours, theirs in zip(found, expected, strict=True))
    for _ in range(repeats):
        began_s = clock()
        punctuated(engine, documents)
        ours_s = clock() - began_s
        torch.set_num_threads(n_threads)
        began_s = clock()
        generated(funasr, texts)
        result.rounds.append((ours_s, clock() - began_s))
        torch.set_num_threads(1)
    return result


def punctuated(engine: PunctuationEngine, documents: Sequence[Document]) -> list[str]:
    """The documents' texts from one call of the engine."""
    steps = engine.punctuate([PunctuationTask(document) for document in documents])
    return [printed(step.done) for step in steps]


def disagreement(
    exact: PunctuationEngine, other: PunctuationEngine, documents: Sequence[Document]
) -> float:
    """The part of the words whose mark differs between the two engines; no mark counts as one."""
    tasks = [PunctuationTask(document) for document in documents]
    pairs = [
        (ours.mark, theirs.mark)
        for one, two in zip(exact.punctuate(tasks), other.punctuate(tasks), strict=True)
        for ours, theirs in zip(one.done, two.done, strict=True)
    ]
    return sum(ours != theirs for ours, theirs in pairs) / len(pairs)


def printed(words: Sequence[MarkedWord]) -> str:
    """Running text, spaced as in a transcript."""
    return join_words([Word(w.text, 0, 0, w.mark, w.space) for w in words])


def generated(funasr: AutoModelAlone, texts: Sequence[str]) -> list[str]:
    """The documents' texts from FunASR, one call each."""
    return [funasr.generate(text)["text"].strip() for text in texts]
