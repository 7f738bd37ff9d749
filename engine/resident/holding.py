"""What a worker holds of its bank: on the device what fits there, the rest in host memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...kernels.execution.backend import Backend
from ...kernels.tensors import TensorSet
from ..plans.apply import grouped
from ..plans.plan import Plan
from ..weights.bank import Bank
from ..weights.budget import PROCESSES, SETS, Home
from ..weights.capacity import FREE_BYTES
from ..weights.machine import host_bytes
from ..weights.selection import Selection
from ..weights.shared import MappedBank, SharedBank
from ..weights.stream import Slot, make_slots, stream

# Pinned memory is at most 1 / PINNED_SHARE of the machine's, since it cannot be taken back.
PINNED_SHARE = 2
# One call writes at most this many bytes of results, and the time limit is checked between calls.
# On a CPU, small tensors of one call share its threads and its Python; more bytes than the CPU's
# cache holds gain nothing.
GPU_GROUP_BYTES, CPU_GROUP_BYTES = 4 << 30, 4 << 20


@dataclass(frozen=True)
class Holding:
    """A bank in its place, the backend that merges it, and slots for tensors that are on disk."""

    bank: Bank
    backend: Backend
    slots: Sequence[Slot]

    @staticmethod
    def of(
        selection: Selection,
        backend: Backend,
        memory_bytes: int | None = None,
        device_bytes: int | None = None,
        pinned_bytes: int | None = None,
        shared: Mapping[str, Any] | None = None,
    ) -> Holding:
        """Place a bank and make its slots. UsageError where not even tensors in flight fit.

        What a card holds is brought there now, as the limit of a swap is no limit for reading files.
        """
        bank = placed(selection, backend, memory_bytes, device_bytes, pinned_bytes, shared)
        bank.residency.bring()
        on_disk = [name for name, home in bank.residency.homes.items() if home is Home.DISK]
        room_bytes = SETS // PROCESSES * bank.selection.slot_bytes(on_disk)
        return Holding(bank, backend, make_slots(bank.residency, on_disk, room_bytes))

    def batches(self, plan: Plan) -> Iterator[Sequence[TensorSet]]:
        """Yield the plan's tensors by what goes into one call: those in memory, then those on disk.

        A tensor from disk is gone once the next one is asked for.
        """
        on_disk = [name for name in plan.tensors if self.bank.residency.homes[name] is Home.DISK]
        held = [name for name in plan.tensors if self.bank.residency.homes[name] is not Home.DISK]
        most_bytes = GPU_GROUP_BYTES if on_gpu(self.backend) else CPU_GROUP_BYTES
        for names in grouped(plan.tensors, held, self.bank.selection.base, most_bytes):
            yield [self.bank.tensors(name) for name in names]
        for tensors, _ in stream(self.bank.residency, on_disk, self.slots):
            yield [tensors]


def on_gpu(backend: Backend) -> bool:
    """Return whether the backend's kernels run on a GPU."""
    return backend.name == "triton" and torch.cuda.is_available()


def target_of(backend: Backend) -> int | None:
    """Return what a GPU's kernels are compiled for: 90 for sm_90. None without a GPU."""
    if not on_gpu(backend):
        return None
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def placed(
    selection: Selection,
    backend: Backend,
    memory_bytes: int | None,
    device_bytes: int | None,
    pinned_bytes: int | None,
    shared: Mapping[str, Any] | None = None,
) -> Bank:
    """Make a bank with a home for each tensor. Called once the engine is open.

    On a GPU tensors take `device_bytes` of it, as the plan of the machine says, and never more than is
    free now less a reserve. The rest takes `pinned_bytes` of pinned memory; without a plan at most half
    of the machine's. Sets in flight come on top: a plan that has all on the card pins nothing, and an engine
    that took a little more than was planned must not end the run. What is in the `shared` bank of the node
    has its place already. UsageError where not even they fit.
    """
    there = MappedBank(selection, **shared, pin=on_gpu(backend)) if shared else None
    if not on_gpu(backend):
        return Bank.within(selection, memory_bytes, shared=there)
    free_bytes = torch.cuda.mem_get_info()[0] - FREE_BYTES
    return Bank.within(
        selection,
        memory_bytes,
        device=torch.device("cuda", torch.cuda.current_device()),
        device_bytes=free_bytes if device_bytes is None else min(device_bytes, free_bytes),
        host_bytes=host_bytes() / PINNED_SHARE
        if pinned_bytes is None
        else pinned_bytes + flight_bytes(selection),
        shared=there,
    )


def flight_bytes(selection: Selection) -> int:
    """Return the bytes of all sets that are in flight at a time."""
    sizes = selection.sizes(selection.names).values()
    return SETS * max((size.in_flight for size in sizes), default=0)


def bank_to_share(bank: Bank, device_bytes: int, pinned_bytes: int) -> SharedBank | None:
    """Make what the workers of this machine share: tensors that the plan pins; None where there are none.

    `bank` is the driver's. Each card has `device_bytes` for other tensors, as in `placed`.
    """
    selection, most = bank.selection, pinned_bytes + flight_bytes(bank.selection)
    planned = Bank.within(
        selection, bank.memory_bytes, device_bytes=device_bytes, host_bytes=most
    ).residency
    names = [name for name, home in planned.homes.items() if home is Home.HOST]
    return SharedBank(selection, names) if names else None
