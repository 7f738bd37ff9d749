"""One copy a node of the tensors that its cards have no room for: shared memory, not one copy a worker.

    driver   makes the memory at its full size and seals the size -> fills it, once, from the files
    worker   inherits the descriptor -> maps it, has its device pin the pages -> reads

The memory has no name and needs no room in /dev/shm, of which a container has 64 MB. It is freed with the last
process that holds it, however that ends. No process can cut it off, so no reader meets a page that is gone.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any

import torch
from torch import Tensor

from ...kernels.tensors import TensorSet
from ..errors import EngineGone, UsageError
from .checkpoint import Checkpoint
from .headers import Entry
from .selection import Selection

NAME = "selfdev-bank"
# cudaHostRegisterPortable.
PORTABLE = 1
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedBank:
    """The driver's end of it: a descriptor, and the tensors that it holds of base and experts, by name."""

    def __init__(self, selection: Selection, names: Sequence[str]) -> None:
        self.selection, self.names = selection, tuple(names)
        self.starts, self.size_bytes = layout(selection, self.names)
        self.descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, self.size_bytes)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALS)
        self._filling, self._is_filled, self._given_up = Lock(), False, Event()

    def fill(self) -> None:
        """Read all its tensors, the first time.

        UsageError where a file is not what was opened, EngineGone after `give_up`.
        """
        with self._filling:
            if self._is_filled:
                return
            for name in self.names:
                if self._given_up.is_set():
                    raise EngineGone("the workers end before their bank is read")
                for checkpoint, start in zip(self.selection.models, self.starts[name], strict=True):
                    write(self.descriptor, checkpoint.tensor(name), start)
            self._is_filled = True

    def give_up(self) -> None:
        """Have `fill` end with the next tensor: it may take a minute, and nobody waits for it any more."""
        self._given_up.set()

    def to_json(self) -> dict[str, object]:
        """Return what a worker that inherits the descriptor needs to map it."""
        return {"descriptor": self.descriptor, "names": list(self.names)}

    def close(self) -> None:
        """Let go of it; workers that have it keep it until they end."""
        os.close(self.descriptor)


class MappedBank:
    """A worker's end of it: the whole of it, mapped to be read, and pinned where there is a device."""

    def __init__(
        self, selection: Selection, *, names: Sequence[str], descriptor: int, pin: bool
    ) -> None:
        self.selection, self.names = selection, frozenset(names)
        self.starts, size = layout(selection, names)
        os.set_inheritable(descriptor, False)
        self._map = mmap.mmap(descriptor, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if pin:
            register(address, size)
        # A device pins only what may be written to. From here on a stray write ends its own worker, and changes
        # nothing that the others read.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), mmap.PROT_READ):
            raise OSError(ctypes.get_errno(), "mprotect")

    def tensors(self, name: str) -> TensorSet:
        """Return one tensor of the base and of every expert."""
        base, *experts = (
            self._view(checkpoint, name, start)
            for checkpoint, start in zip(self.selection.models, self.starts[name], strict=True)
        )
        return TensorSet(name, base, dict(zip(self.selection.experts, experts, strict=True)))

    def _view(self, checkpoint: Checkpoint, name: str, start: int) -> Tensor:
        shape, dtype = checkpoint.shape(name), checkpoint.dtype(name)
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(self._map, dtype=dtype, count=math.prod(shape), offset=start)
        return flat.reshape(shape)


def layout(selection: Selection, names: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return where each tensor of base and experts starts, on pages of its own, and the size of all."""
    starts, end = dict[str, tuple[int, ...]](), 0
    for name in names:
        sizes = [rounded(model.entries[name]) for model in selection.models]
        starts[name] = tuple(end + sum(sizes[:i]) for i in range(len(sizes)))
        end += sum(sizes)
    return starts, end


def rounded(entry: Entry) -> int:
    """Return a tensor's bytes in whole pages."""
    return -(-entry.size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def write(descriptor: int, tensor: Tensor, start: int) -> None:
    """Write a tensor's bytes at this place."""
    left = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    while left:
        count = os.pwrite(descriptor, left, start)
        left, start = left[count:], start + count


def pinned_copy(tensor: Tensor) -> Tensor:
    """Return a copy in pages of its own, which the device pins.

    `Tensor.pin_memory` rounds each size up to a power of two: Qwen2.5-7B's projections would take twice their bytes.
    """
    if not tensor.numel():
        return tensor
    size = -(-tensor.numel() * tensor.element_size() // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size)
    flat = torch.frombuffer(pages, dtype=tensor.dtype, count=tensor.numel())
    copy = flat.reshape(tensor.shape).copy_(tensor)
    register(copy.data_ptr(), size)
    return copy


def register(address: int, size: int) -> None:
    """Have the device pin whole pages of shared memory (`torch.cuda._pin_memory_utils` does the same)."""
    cudart: Any = torch.cuda.cudart()
    if code := int(cudart.cudaHostRegister(address, size, PORTABLE)):
        raise UsageError(
            f"the card's driver cannot pin {size / 2**30:.1f} GiB of this machine's memory (cudaError {code}): give a "
            "smaller --memory, so that more is read from disk"
        )
