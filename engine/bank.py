"""The bank: the selected tensors of base and experts, checked together before anything is paid for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from cachetools import LRUCache
from torch import Tensor

from ..kernels.backend import Memo, TensorSet
from .checkpoint import Checkpoint
from .errors import UsageError

MLP = r"(^|\.)(mlp|feed_forward)\.(.*\.)?\w*(proj|fc|fc1|fc2|w1|w2|w3|dense\w*)\.weight$"
FLOATS = (torch.bfloat16, torch.float16, torch.float32)
QUANTISED = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8)
START_ELEMENTS = 1 << 14
MEMO_BYTES = 256 << 20  # statistics kept, over all tensors
VALUE_OVERHEAD_BYTES = 512


@dataclass(frozen=True)
class Bank:
    """`selected`: names that match `include`, in the base's order.

    `keep`: hold tensors, mapped: one copy in memory for all processes of a machine. `keeps`: what to
    put around a tensor's bounded memo, so that statistics outlive the process.
    """

    base: Checkpoint
    experts: Mapping[str, Checkpoint]
    include: str
    selected: tuple[str, ...]
    keep: bool = False
    keeps: Callable[[str, Memo], Memo] | None = None
    _held: dict[str, TensorSet] = field(default_factory=dict, repr=False)
    _changed: dict[str, bool] = field(default_factory=dict, repr=False)
    _memos: dict[str, Memo] = field(default_factory=dict, repr=False)

    @staticmethod
    def open(base: str, experts: Mapping[str, str], include: str, keep: bool = False) -> Bank:
        """Check everything first. UsageError names the model, file or tensor at fault."""
        if not experts:
            raise UsageError("no expert is given: add --expert NAME=DIR")
        opened = Checkpoint.open(base)
        selected = select(opened, include)
        checkpoints = {name: Checkpoint.open(place) for name, place in experts.items()}
        for expert, checkpoint in checkpoints.items():
            for name in selected:
                check_pair(expert, name, opened, checkpoint)
        return Bank(opened, checkpoints, include, selected, keep)

    @property
    def size_bytes(self) -> int:
        """Of the selected tensors of base and experts."""
        models = (self.base, *self.experts.values())
        return sum(model.entries[name].size_bytes for model in models for name in self.selected)

    def tensors(self, name: str) -> TensorSet:
        """The tensor of that name of the base and of every expert."""
        if name in self._held:
            return self._held[name]
        if not self.keep:
            self._held.clear()  # but for the latest: a program asks often about one tensor
        read = Checkpoint.mapped if self.keep else Checkpoint.tensor
        experts = {expert: read(checkpoint, name) for expert, checkpoint in self.experts.items()}
        self._held[name] = TensorSet(name, read(self.base, name), experts)
        return self._held[name]

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
        base = tensors.base.float()
        return any(not torch.equal(e.float(), base) for e in tensors.experts.values())

    def memo(self, name: str) -> Memo:
        """Statistics of this tensor's task vectors that were computed before; the latest of them."""
        if name not in self._memos:
            share = MEMO_BYTES // len(self.selected)
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
