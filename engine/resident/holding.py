"""What a worker holds of its bank: on the device what is free there, the rest in host memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ...kernels.execution.backend import Backend
from ...kernels.tensors import TensorSet
from ..plans.apply import grouped
from ..plans.plan import Plan
from ..weights.bank import Bank
from ..weights.budget import PROCESSES, SETS, Home
from ..weights.selection import Selection
from ..weights.stream import Slot, make_slots, slot_bytes, stream

# Of the device, beside a second model: what kernels and an engine's activations take in passing.
RESERVE_BYTES = 2 << 30
PINNED_SHARE = 2  # pinned memory cannot be taken back: one part in so many of the machine's
# Of results that one call writes. Time is looked at between calls. On a CPU small tensors share its
# threads and the Python of a call; more than its cache holds gains nothing.
GPU_GROUP_BYTES, CPU_GROUP_BYTES = 4 << 30, 4 << 20


@dataclass(frozen=True)
class Holding:
    """A bank in its place, the backend that merges it, and memory for what is on disk."""

    bank: Bank
    backend: Backend
    slots: Sequence[Slot]

    @staticmethod
    def of(selection: Selection, backend: Backend, memory_bytes: int | None) -> Holding:
        """UsageError as `Bank.within`."""
        bank = placed(selection, backend, memory_bytes)
        on_disk = [name for name, home in bank.residency.homes.items() if home is Home.DISK]
        room_bytes = SETS // PROCESSES * slot_bytes(bank.residency, on_disk)
        return Holding(bank, backend, make_slots(bank.residency, on_disk, room_bytes))

    def batches(self, plan: Plan) -> Iterator[Sequence[TensorSet]]:
        """The plan's tensors by what goes into one call: those in memory, then those from disk,
        each of which is gone once the next is asked for."""
        on_disk = [name for name in plan.tensors if self.bank.residency.homes[name] is Home.DISK]
        held = [name for name in plan.tensors if self.bank.residency.homes[name] is not Home.DISK]
        most_bytes = GPU_GROUP_BYTES if on_gpu(self.backend) else CPU_GROUP_BYTES
        for names in grouped(plan.tensors, held, self.bank.selection.base, most_bytes):
            yield [self.bank.tensors(name) for name in names]
        for tensors, _ in stream(self.bank.residency, on_disk, self.slots):
            yield [tensors]


def on_gpu(backend: Backend) -> bool:
    """Whether the backend's kernels run on a GPU."""
    return backend.name == "triton" and torch.cuda.is_available()


def target_of(backend: Backend) -> int | None:
    """What a GPU's kernels are compiled for: 90 for sm_90. None without a GPU."""
    if not on_gpu(backend):
        return None
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def placed(selection: Selection, backend: Backend, memory_bytes: int | None) -> Bank:
    """A bank with a home for each tensor; the engine is open. UsageError as `Bank.within`.

    On a GPU: what is free now, less a reserve and less the room of a second model (the generator's
    engine opens later), then pinned memory. Without `memory_bytes` at most half of the machine's.
    """
    if not on_gpu(backend):
        return Bank.within(selection, memory_bytes)
    model_bytes = sum(entry.size_bytes for entry in selection.base.entries.values())
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Bank.within(
        selection,
        memory_bytes,
        device=torch.device("cuda", torch.cuda.current_device()),
        device_bytes=torch.cuda.mem_get_info()[0] - RESERVE_BYTES - model_bytes,
        host_bytes=machine_bytes / PINNED_SHARE,
    )
