"""The bank as a stream: the next tensors are read while this one is computed, into memory that is
used again (what is allocated anew is faulted in anew, which costs more than reading it).

    reader thread    read i + 1 | read i + 2 | ...
    caller           compute i  | compute i + 1
    writer thread    write i - 1 | write i     (merge.py)

A slot holds one tensor of base, experts and result. It is read into again only once its result was
written, so two slots bound the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..kernels.backend import TensorSet
from .bank import Bank
from .errors import UsageError

NUM_SLOTS = 2


@dataclass
class Slot:
    """Memory by role ("", expert names, "out"), grown to the largest tensor that came."""

    memory: dict[str, Tensor] = field(default_factory=dict)
    written: Future[Any] | None = None  # the slot's last result

    def space(self, role: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Uninitialised, of this shape and dtype."""
        size_bytes = math.prod(shape) * dtype.itemsize
        held = self.memory.get(role)
        if held is None or held.numel() < size_bytes:
            held = self.memory[role] = torch.empty(size_bytes, dtype=torch.uint8)
        return held[:size_bytes].view(dtype).reshape(shape)

    def wait(self) -> None:
        """Until the slot may be read into again; raises what went wrong when writing."""
        if self.written is not None:
            self.written.result()
            self.written = None


def slot_bytes(bank: Bank, names: Sequence[str]) -> int:
    """Memory of one slot that holds any of these tensors."""
    models = (bank.base, *bank.experts.values())
    largest = [max((m.entries[n].size_bytes for n in names), default=0) for m in models]
    return sum(largest) + largest[0]


def num_slots(bank: Bank, names: Sequence[str], memory_bytes: int | None) -> int:
    """How many slots fit. UsageError where not even one does."""
    one = slot_bytes(bank, names)
    if memory_bytes is None or NUM_SLOTS * one <= memory_bytes:
        return NUM_SLOTS
    if one > memory_bytes:
        raise UsageError(
            f"--memory: the largest tensor needs {one / 2**20:.0f} MiB for base, experts and "
            f"result; {memory_bytes / 2**20:.0f} MiB were allowed"
        )
    return 1


def stream(
    bank: Bank, names: Sequence[str], slots: Sequence[Slot]
) -> Iterator[tuple[TensorSet, Slot]]:
    """Each of these tensors with the slot that holds it, in order.

    The caller sets `slot.written` to what must be over before the slot is used again.
    """

    def read(name: str, slot: Slot) -> TensorSet:
        slot.wait()
        return read_set(bank, name, slot.space)

    with ThreadPoolExecutor(1, "reader") as reader:
        ahead: list[Future[TensorSet]] = []
        for number, name in enumerate(names):
            if not ahead:
                ahead.append(reader.submit(read, name, slots[number % len(slots)]))
            tensors = ahead.pop(0).result()
            if len(slots) > 1 and number + 1 < len(names):
                following = slots[(number + 1) % len(slots)]
                ahead.append(reader.submit(read, names[number + 1], following))
            yield tensors, slots[number % len(slots)]


def read_set(bank: Bank, name: str, space: Callable[..., Tensor]) -> TensorSet:
    """The tensor of that name of base and experts, read into the slot's memory."""
    found = {}
    for role, checkpoint in {"": bank.base, **bank.experts}.items():
        entry = checkpoint.entries[name]
        found[role] = checkpoint.read(name, space(role, entry.shape, entry.dtype))
    return TensorSet(name, found.pop(""), found)
