"""The bank: the selected tensors of base and experts, checked together before anything is paid for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from cachetools import LRUCache
from torch import Tensor

from ...kernels.tensors import Memo, TensorSet
from ..errors import UsageError
from .budget import Home, TensorBytes, choose_homes, statistics_share, tensor_share
from .checkpoint import Checkpoint

MLP = r"(^|\.)(mlp|feed_forward)\.(.*\.)?\w*(proj|fc|fc1|fc2|w1|w2|w3|dense\w*)\.weight$"
FLOATS = (torch.bfloat16, torch.float16, torch.float32)
QUANTISED = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8)
START_ELEMENTS = 1 << 14
MEMO_BYTES = 256 << 20  # statistics kept, over all tensors
VALUE_OVERHEAD_BYTES = 512


@dataclass(frozen=True)
class Bank:
    """`selected`: names that match `include`, in the base's order.

    `homes`: where each tensor is between two uses; on disk if not named. On the host, tensors are
    mapped: one copy in memory for all processes of a machine; with a `device` they are this process's
    own, pinned. `memory_bytes`: for all of it, None: no bound. `keeps`: what to put around a tensor's
    bounded memo, so that statistics outlive the process.
    """

    base: Checkpoint
    experts: Mapping[str, Checkpoint]
    include: str
    selected: tuple[str, ...]
    homes: Mapping[str, Home] = field(default_factory=dict)
    memory_bytes: int | None = None
    device: torch.device | None = None
    keeps: Callable[[str, Memo], Memo] | None = None
    _held: dict[str, TensorSet] = field(default_factory=dict, repr=False)
    _latest: list[TensorSet] = field(default_factory=list, repr=False)  # of those on disk
    _changed: dict[str, bool] = field(default_factory=dict, repr=False)
    _memos: dict[str, Memo] = field(default_factory=dict, repr=False)

    @staticmethod
    def open(base: str, experts: Mapping[str, str], include: str, keep: bool = False) -> Bank:
        """Check everything first. UsageError names the model, file or tensor at fault.

        `keep`: all tensors are held on the host; else they are on disk.
        """
        if not experts:
            raise UsageError("no expert is given: add --expert NAME=DIR")
        opened = Checkpoint.open(base)
        selected = select(opened, include)
        checkpoints = {name: Checkpoint.open(place) for name, place in experts.items()}
        for expert, checkpoint in checkpoints.items():
            for name in selected:
                check_pair(expert, name, opened, checkpoint)
        homes = dict.fromkeys(selected, Home.HOST) if keep else {}
        return Bank(opened, checkpoints, include, selected, homes)

    def within(
        self,
        memory_bytes: int | None,
        device: torch.device | None = None,
        device_bytes: int = 0,
        host_bytes: float = math.inf,
    ) -> Bank:
        """This bank, holding what fits. UsageError where not even tensors in flight fit.

        `memory_bytes` is for all that driver and worker need of it (budget.py); without it,
        `host_bytes` for held tensors and those in flight. `device_bytes`: of the device.
        """
        if memory_bytes is not None:
            host_bytes = tensor_share(memory_bytes)
        sizes = {name: self.size_of(name) for name in self.selected}
        homes = choose_homes(sizes, host_bytes, device_bytes)
        return replace(self, homes=homes, memory_bytes=memory_bytes, device=device)

    def size_of(self, name: str) -> TensorBytes:
        base = self.base.entries[name].size_bytes
        held = base + sum(expert.entries[name].size_bytes for expert in self.experts.values())
        return TensorBytes(held, held + base)

    @property
    def size_bytes(self) -> int:
        """Of the selected tensors of base and experts."""
        return sum(self.size_of(name).held for name in self.selected)

    def tensors(self, name: str) -> TensorSet:
        """The tensor of that name of the base and of every expert."""
        if name in self._held:
            return self._held[name]
        if self.homes.get(name, Home.DISK) is Home.DISK:
            return self._in_flight(name)
        self._held[name] = self._load(name)
        return self._held[name]

    def _load(self, name: str) -> TensorSet:
        if self.device is None:
            return self._each(name, lambda checkpoint: checkpoint.mapped(name))
        on_device, device = self.homes[name] is Home.DEVICE, self.device

        def moved(checkpoint: Checkpoint) -> Tensor:
            tensor = checkpoint.tensor(name)
            return tensor.to(device) if on_device else tensor.pin_memory()

        return self._each(name, moved)

    def _each(self, name: str, read: Callable[[Checkpoint], Tensor]) -> TensorSet:
        return TensorSet(name, read(self.base), {e: read(c) for e, c in self.experts.items()})

    def _in_flight(self, name: str) -> TensorSet:
        """The latest is kept: a program asks often about one tensor."""
        if not self._latest or self._latest[0].name != name:
            self.release()
            self._latest.append(self.fetch(name))
        return self._latest[0]

    def fetch(self, name: str) -> TensorSet:
        """The tensor of that name of base and experts, mapped, its pages in this process."""
        return self._each(name, lambda checkpoint: checkpoint.fetch(name))

    def drop(self, name: str) -> None:
        """Take those pages out of this process."""
        for checkpoint in (self.base, *self.experts.values()):
            checkpoint.drop(name)

    def release(self) -> None:
        """Give back the memory of tensors that are on disk."""
        for tensors in self._latest:
            self.drop(tensors.name)
        self._latest.clear()

    def forget(self) -> None:
        """Drop the statistics: another backend's may differ in the last bit."""
        self._memos.clear()

    def changed(self, name: str) -> bool:
        """Whether any expert changed the tensor; if none did, no program is asked."""
        if name not in self._changed:
            self._changed[name] = self._starts_changed(name) or self._whole_changed(name)
        return self._changed[name]

    def _starts_changed(self, name: str) -> bool:
        """Whether the first values tell already; they nearly always do."""
        base = self._start(self.base, name)
        starts = (self._start(expert, name) for expert in self.experts.values())
        return any(not torch.equal(start, base) for start in starts)

    def _start(self, checkpoint: Checkpoint, name: str) -> Tensor:
        dtype = checkpoint.dtype(name)
        data = bytearray(checkpoint.start_of(name, START_ELEMENTS * dtype.itemsize))
        return torch.frombuffer(data, dtype=dtype).float() if data else torch.zeros(0)

    def _whole_changed(self, name: str) -> bool:
        tensors = self.tensors(name)
        return any(not equal(expert, tensors.base) for expert in tensors.experts.values())

    def memo(self, name: str) -> Memo:
        """Statistics of this tensor's task vectors that were computed before; the latest of them."""
        if name not in self._memos:
            most = MEMO_BYTES
            if self.memory_bytes is not None:
                most = min(most, statistics_share(self.memory_bytes))
            share = most // len(self.selected)
            cache: Memo = LRUCache(share, lambda v: v.nbytes + VALUE_OVERHEAD_BYTES)
            self._memos[name] = self.keeps(name, cache) if self.keeps else cache
        return self._memos[name]

    def check_finite(self, name: str) -> None:
        """UsageError if a checkpoint itself holds NaN or Inf in this tensor."""
        tensors = self.tensors(name)
        models = {"the base": (self.base, tensors.base)}
        models |= {f"expert {e}": (self.experts[e], t) for e, t in tensors.experts.items()}
        for model, (checkpoint, tensor) in models.items():
            if not tensor.isfinite().all():
                file = checkpoint.entries[name].file
                raise UsageError(f"{file}: {name} of {model} holds NaN or Inf")


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether all values are equal; copied only where the dtypes differ."""
    if one.dtype is not other.dtype:
        one, other = one.float(), other.float()
    return torch.equal(one, other)


def select(base: Checkpoint, include: str) -> tuple[str, ...]:
    """Names to merge: `mlp`, `all`, or a regular expression for re.search."""
    pattern = {"mlp": MLP, "all": ""}.get(include, include)
    try:
        matches = re.compile(pattern).search
    except re.error as error:
        raise UsageError(f"--include {include}: not a regular expression: {error}") from None
    matching = [name for name in base.names if matches(name)]
    for name in matching:
        if base.dtype(name) in QUANTISED:
            file = base.entries[name].file
            raise UsageError(
                f"{file}: {name} is {base.dtype(name)}: quantised weights cannot be merged; "
                "start from a 16 or 32 bit checkpoint"
            )
    selected = [name for name in matching if base.dtype(name) in FLOATS]
    if not selected:
        raise UsageError(f"--include {include}: selects no tensor of {base.folder}")
    return tuple(selected)


def check_pair(expert: str, name: str, base: Checkpoint, checkpoint: Checkpoint) -> None:
    if name not in checkpoint.entries:
        raise UsageError(f"expert {expert} ({checkpoint.folder}): lacks {name}")
    mine, theirs = base.shape(name), checkpoint.shape(name)
    if mine != theirs:
        raise UsageError(
            f"expert {expert} ({checkpoint.folder}): {name} has shape {list(theirs)}, "
            f"the base's is {list(mine)}"
        )
    if checkpoint.dtype(name) not in FLOATS:
        raise UsageError(
            f"expert {expert}: {name} is {checkpoint.dtype(name)}, not a 16 or 32 bit float"
        )
