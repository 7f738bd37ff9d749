"""Reads tensors ahead of their use, into slots that are used again and again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.tensors import TensorSet
from .residency import Residency

# A second slot may hold this much for any model, as far as memory is left.
SMALL_BYTES = 256 << 20


@dataclass
class Slot:
    """Room for one tensor at a time: mapped base and experts, and memory for the result.

    The result's memory grows to the largest result that came.
    """

    # The most that base, experts and result of one tensor may take together.
    most_bytes: float = math.inf
    # The write of the last result.
    written: Future[object] | None = None
    # The name of the tensor whose pages it holds.
    held: str | None = None
    _memory: Tensor | None = None

    def fetch(self, residency: Residency, name: str) -> TensorSet:
        """Take in a tensor in place of the one before, once that one's result is written."""
        self.release(residency)
        self.held = name
        return residency.fetch(name)

    def release(self, residency: Residency) -> None:
        """Wait for the write of the result, raise its error, then let the tensor's pages go."""
        if self.written is not None:
            self.written.result()
            self.written = None
        if self.held is not None:
            residency.drop(self.held)
            self.held = None

    def out(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return uninitialised memory for a result; the next call returns the same memory."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if self._memory is None or self._memory.numel() < size_bytes:
            self._memory = torch.empty(size_bytes, dtype=torch.uint8)
        return self._memory[:size_bytes].view(dtype).reshape(shape)


def make_slots(residency: Residency, names: Sequence[str], memory_bytes: int | None) -> list[Slot]:
    """Make a slot that fits any of these tensors, and where memory is left one to read ahead into.

    `memory_bytes` None means no bound. UsageError where not even one slot fits.
    """
    selection = residency.selection
    first = selection.check_slot(names, memory_bytes)
    left = math.inf if memory_bytes is None else memory_bytes - first
    most_bytes = min(left, max(SMALL_BYTES, usual_bytes(residency, names)))
    fitting = [name for name in names if selection.slot_bytes([name]) <= most_bytes]
    if fitting and selection.slot_bytes(fitting) <= left:
        return [Slot(), Slot(most_bytes)]
    return [Slot()]


def usual_bytes(residency: Residency, names: Sequence[str]) -> int:
    """Return a slot size such that half of all bytes are in tensors of at most this size."""
    sizes = sorted(residency.selection.slot_bytes([name]) for name in names)
    half, seen = sum(sizes) / 2, 0
    for size in sizes:
        seen += size
        if seen >= half:
            return size
    return 0


def assigned(residency: Residency, names: Sequence[str], slots: Sequence[Slot]) -> list[Slot]:
    """Choose each tensor's slot: another one than the tensor before has, if it fits there."""
    first, other = slots[0], slots[-1]
    found: list[Slot] = []
    for name in names:
        fits = residency.selection.slot_bytes([name]) <= other.most_bytes
        found.append(other if fits and found and found[-1] is first else first)
    return found


def stream(
    residency: Residency, names: Sequence[str], slots: Sequence[Slot]
) -> Iterator[tuple[TensorSet, Slot]]:
    """Yield each of these tensors, in order, with its slot, and read the next one meanwhile.

    The caller sets `slot.written` to the future that must be over before the slot is used again. At
    the end all slots are free.
    """
    homes = assigned(residency, names, slots)
    with ThreadPoolExecutor(1, "reader") as reader:
        ahead: Future[TensorSet] | None = None
        for i, (name, slot) in enumerate(zip(names, homes, strict=True)):
            tensors = (ahead or reader.submit(slot.fetch, residency, name)).result()
            free = i + 1 < len(names) and homes[i + 1] is not slot
            ahead = reader.submit(homes[i + 1].fetch, residency, names[i + 1]) if free else None
            yield tensors, slot
    for slot in slots:
        slot.release(residency)
