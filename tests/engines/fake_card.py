"""A fake GPU that computes on the CPU, and records each time the host waits for it.

The engines' own CUDA code runs unchanged: `device="cuda"`, pinned memory, streams and events. A
real card refuses to mix host and device tensors, and so does this one. Each wait of the host for
the device is recorded with its reason. The memory of tensors is counted. Time is not simulated.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CARD, HOST = torch.device("cuda"), torch.device("cpu")
TOTAL_BYTES = 16 << 30
# Operations whose result has a size or a value that only the device knows.
READS_VALUES = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "tolist",
    "unique_consecutive",
    "_unique2",
}
# Operations for which Python's binding would call the linked CUDA before any dispatch.
IN_PYTHON = {
    Tensor.__getitem__: "index",
    Tensor.__setitem__: "index_put_",
    Tensor.copy_: "copy_",
    Tensor.nonzero: "nonzero",
    Tensor.tolist: "tolist",
}
COPIES = {"_to_copy", "to", "copy_"}
# Operations that want their lengths on the host, for cuDNN.
LENGTHS_ON_HOST = {"_pack_padded_sequence", "_pad_packed_sequence", "lstm"}
LENGTHS_FOR_HOST = {"_pack_padded_sequence", "_pad_packed_sequence"}  # their second result, too


class OnCard(Tensor):
    """A tensor that claims to be on the card. Its values are in `held`, on the CPU."""

    held: Tensor
    card: FakeCard
    streams: set[FakeStream]  # which may use its memory
    made: FakeEvent  # from which on it may be read

    @staticmethod
    def __new__(cls, held: Tensor, card: FakeCard) -> OnCard:
        made: OnCard = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CARD,
        )
        made.held, made.card = held, card
        made.streams, made.made = {card.stream}, card.stream.done()
        card.count(made)
        return made

    def record_stream(self, stream: Any) -> None:
        self.streams.add(stream)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in IN_PYTHON and isinstance(args[0], OnCard):
            return args[0].card.run(IN_PYTHON[func], func, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{func} of a card that was left")


class FakeCard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One GPU, while this context is entered. `waits` are the reasons of all waits so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []
        self.stream = FakeStream(self)  # the current stream
        self.bytes_held = self.peak_bytes = 0  # of tensors, without the workspace of kernels
        self._holders: dict[int, int] = {}  # address of a storage -> number of tensors on it
        self._pinned: list[Tensor] = []  # kept, so that no address is used twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if name == "pin_memory":
            return self._pin(args[0])
        if kwargs.get("pin_memory"):
            return self._pin(func(*args, **kwargs | {"pin_memory": False}))
        if name == "is_pinned":
            return self._is_pinned(args[0])
        if name == "_has_compatible_shallow_copy_type":  # asked by a module that moves to the card
            return False
        return self.run(name, func, args, kwargs)

    def run(self, name: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Runs the operation on the held values, on the CPU."""
        given = tree_leaves((args, kwargs))
        leaves = [leaf for leaf in given if isinstance(leaf, Tensor)]
        on_card = any(isinstance(leaf, OnCard) for leaf in leaves)
        asked_for = [leaf for leaf in given if isinstance(leaf, torch.device)]
        target = asked_for[0] if asked_for else CARD if on_card else HOST
        crosses = {leaf.device.type for leaf in leaves} | {target.type} == {"cpu", "cuda"}
        if name in COPIES and crosses:
            asked = kwargs.get("non_blocking") or (name == "copy_" and True in args[2:])
            self._note_copy(name, leaves, waits=not asked)
        elif on_card:
            self._check(name, args, leaves)
        out = func(*tree_map(held, args), **tree_map(held, kwargs))
        if name.endswith("_") and isinstance(args[0], Tensor):
            if isinstance(args[0], OnCard):
                args[0].made = self.stream.done()
            return args[0]
        if target.type != "cuda":
            return out
        if name in LENGTHS_FOR_HOST:
            return OnCard(out[0], self), out[1]
        return tree_map(lambda t: OnCard(t, self) if isinstance(t, Tensor) else t, out)

    def _note_copy(self, name: str, leaves: Sequence[Tensor], *, waits: bool) -> None:
        """Records that a copy waits, unless it is asynchronous and uses pinned memory."""
        pinned = any(self._is_pinned(leaf) for leaf in leaves if not isinstance(leaf, OnCard))
        if waits or not pinned:
            self.waits.append(f"{name}: {'pinned' if pinned else 'pageable'} memory")

    def count(self, tensor: OnCard) -> None:
        """Counts the tensor's memory until the last tensor on it is gone."""
        storage = tensor.held.untyped_storage()
        address, n_bytes = storage.data_ptr(), storage.nbytes()
        self._holders[address] = self._holders.get(address, 0) + 1
        if self._holders[address] == 1:
            self.bytes_held += n_bytes
            self.peak_bytes = max(self.peak_bytes, self.bytes_held)
        weakref.finalize(tensor, self._drop, address, n_bytes)

    def _drop(self, address: int, n_bytes: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self.bytes_held -= n_bytes

    @contextlib.contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        """Makes this stream the current one."""
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def _check(self, name: str, args: Sequence[Any], leaves: Sequence[Tensor]) -> None:
        """Records a wait if the operation reads a value that the card computes.

        Raises RuntimeError if the operation mixes host and card, as a real card would. Also raises
        it for a tensor of another stream, unless its memory is kept for the current stream and the
        current stream waits for it. A real card would silently compute with wrong values.
        """
        for leaf in leaves:
            if isinstance(leaf, OnCard) and self.stream not in leaf.streams:
                raise RuntimeError(f"{name}: the memory is another stream's")
            if isinstance(leaf, OnCard) and not self.stream.is_after(leaf.made):
                raise RuntimeError(f"{name}: another stream may not be done with it")
        by_mask = name.startswith("index") and any(
            leaf.dtype is torch.bool for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)
        )
        by_counts = name == "repeat_interleave"
        if name in READS_VALUES or by_mask or by_counts:
            self.waits.append(f"{name}: reads what the card has computed")
        if name == "index_put_" and copies_value(*args[1:3]):
            self.waits.append(f"{name}: pageable memory")
        ours = [leaf for leaf in leaves if leaf.dim() and not isinstance(leaf, OnCard)]
        if ours and name not in LENGTHS_ON_HOST:
            raise RuntimeError(f"{name}: all tensors must be on one device")

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned.append(tensor.clone())
        return self._pinned[-1]

    def _is_pinned(self, tensor: Tensor) -> bool:
        address = tensor.untyped_storage().data_ptr()
        return any(address == kept.untyped_storage().data_ptr() for kept in self._pinned)


def copies_value(index: Any, value: Any) -> bool:
    """Whether an assignment copies a value from the host to places that a tensor names.

    The copy is from pageable memory, so it waits. With slices and integers alone, the value is
    filled in without a copy.
    """
    by_tensor = any(isinstance(leaf, Tensor) for leaf in tree_leaves(index))
    return by_tensor and not isinstance(value, OnCard)


def held(leaf: Any) -> Any:
    """The argument of an operation, as the CPU needs it."""
    if isinstance(leaf, OnCard):
        return leaf.held
    return HOST if isinstance(leaf, torch.device) else leaf


@dataclass(frozen=True, slots=True)
class FakeEvent:
    """The point at which a stream has done its first `n_done` operations."""

    stream: FakeStream
    n_done: int


class FakeStream:
    """A stream. Its operations run at once, but others must wait for it to use their results."""

    def __init__(self, card: FakeCard) -> None:
        self._card = card
        self._n_asked = 0
        self._waited_for: dict[FakeStream, int] = {}

    def done(self) -> FakeEvent:
        """Queues one more operation; returns the event of its end."""
        self._n_asked += 1
        return self.record_event()

    def is_after(self, event: FakeEvent) -> bool:
        """Whether the next operation begins after the event."""
        waited_for = self._waited_for.get(event.stream, 0)
        return event.stream is self or waited_for >= event.n_done

    def synchronize(self) -> None:
        self._card.waits.append("synchronize: the stream")

    def record_event(self) -> FakeEvent:
        return FakeEvent(self, self._n_asked)

    def wait_event(self, event: FakeEvent) -> None:
        before = self._waited_for.get(event.stream, 0)
        self._waited_for[event.stream] = max(before, event.n_done)


@contextlib.contextmanager
def fake_card() -> Iterator[FakeCard]:
    """Enters a fake card, and replaces the functions of `torch.cuda` that the engines call."""
    card = FakeCard()
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "mem_get_info": lambda: (TOTAL_BYTES, TOTAL_BYTES),
        "memory_reserved": lambda: 0,
        "current_stream": lambda: card.stream,
        "Stream": lambda: FakeStream(card),
        "stream": card.on,
        "synchronize": lambda: card.waits.append("synchronize: the device"),
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch.backends.cudnn, "is_acceptable", lambda _: False))
        stack.enter_context(torch.inference_mode())  # autograd would call the linked CUDA
        stack.enter_context(card)
        yield card
