"""How often a batch makes the host wait for the GPU, counted on a fake card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from deployments.core.batching import transcribe_or_halve
from deployments.core.chunks import Chunk, ChunkRunner, Prepared
from deployments.core.types import Audio, Hints
from deployments.engines import copy_in
from deployments.engines.copy_in import CopyIn, Staged, samples_of
from deployments.engines.packed import Rows, to_device
from deployments.engines.paraformer import cif
from deployments.engines.paraformer.engine import Paraformer
from deployments.engines.protocols import CopiesAhead, EngineSettings
from tests.engines.conftest import Case
from tests.engines.fake_card import FakeCard, fake_card
from tests.engines.paraformer.test_hotwords import FEW, many
from tests.engines.reference import differences

TOKEN_COUNTS_AND_IDS = ["synchronize: the stream"] * 2  # and no third (DESIGN, Copying in)
ON_GPU = EngineSettings(device="cuda")


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with fake_card() as card:
        yield card


@pytest.mark.parametrize("doubt", [cif.DOUBT, 1.0], ids=["few rows doubtful", "all doubtful"])
@pytest.mark.parametrize("n_items", [1, 12])
def test_a_batch_waits_for_the_gpu_twice(
    case: Case, card: FakeCard, monkeypatch: pytest.MonkeyPatch, n_items: int, doubt: float
) -> None:
    engine = Paraformer(case.model_dir, ON_GPU)
    audios = case.audios[:n_items]  # not sorted by length
    monkeypatch.setattr(cif, "DOUBT", doubt)
    card.waits.clear()

    found = engine.read(audios, Hints())

    assert card.waits == TOKEN_COUNTS_AND_IDS
    assert differences(case.engine, audios, found, case.engine.read(audios, Hints()))[0] == []


@pytest.mark.parametrize("n_hotwords", [len(FEW), 60], ids=["few", "filtered"])
def test_hotwords_add_no_wait(seaco_case: Case, card: FakeCard, n_hotwords: int) -> None:
    engine = Paraformer(seaco_case.model_dir, ON_GPU)
    hints = Hints(hotwords=(FEW + many(seaco_case))[-n_hotwords:])
    audios = seaco_case.audios[:12]
    card.waits.clear()

    found = engine.read(audios, hints)

    assert card.waits == TOKEN_COUNTS_AND_IDS
    assert found == seaco_case.engine.read(audios, hints)


def test_a_batch_whose_copy_began_before_is_read_the_same_and_waits_no_more(
    seaco_case: Case, card: FakeCard
) -> None:
    engine = Paraformer(seaco_case.model_dir, ON_GPU)
    audios = seaco_case.audios[:6]
    card.waits.clear()

    assert isinstance(engine, CopiesAhead)
    staged = engine.copy_in(audios)
    while_copied = engine.read(seaco_case.audios[6:9], Hints())
    found = engine.read(staged, Hints())

    assert isinstance(staged, Staged)
    assert card.waits == 2 * TOKEN_COUNTS_AND_IDS
    assert found == engine.read(audios, Hints())
    assert while_copied == engine.read(seaco_case.audios[6:9], Hints())


def test_the_next_call_is_on_its_way_while_one_is_read(seaco_case: Case, card: FakeCard) -> None:
    engine = Paraformer(seaco_case.model_dir, ON_GPU)
    here, next_one = (
        Chunk(np.concatenate(some), tuple(map(len, some)), Hints())
        for some in (seaco_case.audios[:3], seaco_case.audios[3:6])
    )

    def copy_in(batch: Sequence[Audio]) -> Sequence[Audio]:
        with torch.inference_mode(), card:  # both are set for each thread
            return engine.copy_in(batch)

    runner = ChunkRunner(engine.transcribe, engine="", replica="", copy_in=copy_in)
    runner.allow(60_000, slack_ms=60_000)  # one batch for each call
    weights_bytes = card.bytes_held
    prepared = runner.prepare([next_one])
    assert isinstance(prepared, Prepared)
    assert prepared.first is not None
    prepared.first.result()
    assert card.bytes_held == weights_bytes + next_one.samples.nbytes
    card.waits.clear()

    [first], [second] = runner.run([here]), runner.run(prepared)

    assert card.waits == 2 * TOKEN_COUNTS_AND_IDS
    assert card.bytes_held == weights_bytes
    found = (*first.recognitions, *second.recognitions)
    assert list(found) == seaco_case.engine.transcribe(seaco_case.audios[:6], Hints())


def test_what_is_on_its_way_may_not_be_used_without_waiting(card: FakeCard) -> None:
    staged = CopyIn(torch.device("cuda"))([np.ones(3, np.int16)])

    assert isinstance(staged, Staged)
    assert staged.samples is not None
    with pytest.raises(RuntimeError, match="another stream"):
        staged.samples.float()


def test_an_event_from_before_the_copy_is_not_enough(card: FakeCard) -> None:
    staged = CopyIn(torch.device("cuda"))([np.ones(3, np.int16)])
    assert isinstance(staged, Staged)
    staged.arrived = replace(staged.arrived, n_done=0)  # type: ignore[type-var]

    with pytest.raises(RuntimeError, match="may not be done"):
        samples_of(staged, torch.device("cuda")).float()


def test_where_memory_runs_out_the_halves_are_read_without_the_copy_of_the_whole(
    seaco_case: Case, card: FakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Paraformer(seaco_case.model_dir, ON_GPU)
    audios = seaco_case.audios[:6]
    expected = engine.transcribe(audios, Hints())
    held_bytes: list[int] = []

    def features(some: Sequence[Audio]) -> tuple[Tensor, Rows]:
        held_bytes.append(card.bytes_held)  # before any tensor of this batch is made
        found = Paraformer.features(engine, some)
        if len(some) == len(audios):
            raise torch.OutOfMemoryError("no room")
        return found

    monkeypatch.setattr(engine, "features", features)
    weights_bytes = card.bytes_held
    staged = engine.copy_in(audios)  # here, because the runner's thread has no fake card

    outcome = transcribe_or_halve(lambda some: engine.transcribe(some, Hints()), staged)

    assert outcome.out_of_memory
    assert outcome.recognitions == expected
    assert held_bytes == [weights_bytes + 2 * sum(map(len, audios)), weights_bytes, weights_bytes]


def test_what_is_not_heard_costs_the_others_no_second_copy(
    seaco_case: Case, card: FakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Paraformer(seaco_case.model_dir, ON_GPU)
    silent, short = np.zeros(16_000, np.int16), np.ones(20, np.int16)
    audios = [silent, *seaco_case.audios[:2], short, *seaco_case.audios[2:4]]
    expected = engine.read(audios, Hints())
    staged = engine.copy_in(audios)
    monkeypatch.setattr(copy_in, "end_to_end", None)  # would fail if the samples were copied again
    card.waits.clear()

    found = engine.read(staged, Hints())

    assert found == expected
    assert card.waits == TOKEN_COUNTS_AND_IDS


def test_a_part_of_a_batch_on_its_way_is_an_ordinary_batch(card: FakeCard) -> None:
    audios = [np.full(n, n, np.int16) for n in (3, 4, 5)]

    staged = CopyIn(torch.device("cuda"))(audios)

    assert not isinstance(staged[1:], Staged)
    assert samples_of(staged[1:], torch.device("cuda")).tolist() == [4] * 4 + [5] * 5


@pytest.mark.parametrize(
    "waiting",
    [
        lambda values: values.sum().item(),
        lambda values: values.nonzero(),
        lambda values: values[values > 1],
        lambda values: bool((values > 1).any()),
        lambda values: values.cpu(),
        lambda values: values.tolist(),
        lambda values: torch.ones(3).to(values.device),
        lambda values: torch.ones(3).pin_memory().to(values.device),
        lambda values: torch.cuda.synchronize(),
        lambda values: values.__setitem__(values.long(), 0.0),
        lambda values: values.index_put_((values.long(),), torch.tensor(0.0)),
        lambda values: torch.nn.utils.rnn.pack_padded_sequence(
            values[None, :, None].expand(2, -1, -1),
            torch.tensor([2, 3]),
            True,
            enforce_sorted=False,
        ),
    ],
    ids=[
        "item",
        "nonzero",
        "mask",
        "bool",
        "cpu",
        "tolist",
        "pageable",
        "pinned",
        "all",
        "put a scalar",
        "put a host value",
        "packed",
    ],
)
def test_the_fake_card_sees_a_wait(card: FakeCard, waiting: Callable[[Tensor], object]) -> None:
    values = to_device(torch.arange(3.0), torch.device("cuda"))
    assert card.waits == []

    waiting(values)

    assert len(card.waits) == 1


def test_the_fake_card_refuses_to_mix_devices(card: FakeCard) -> None:
    values = to_device(torch.arange(3.0), torch.device("cuda"))

    with pytest.raises(RuntimeError, match="must be on one device"):
        values + torch.ones(3)
