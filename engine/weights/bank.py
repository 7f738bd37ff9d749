"""The bank: the selected tensors of base and experts, where they are, and statistics of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ...kernels.tensors import Memo, TensorSet
from ..errors import UsageError
from .budget import Home, choose_homes, statistics_share, tensor_share
from .memos import MEMO_BYTES, Memos
from .residency import Residency
from .selection import Selection

Keep = Callable[[str, Memo], Memo]  # (tensor, its memo) -> a memo that outlives the process


@dataclass(frozen=True)
class Bank:
    """`memory_bytes` is for all of it, statistics and tensors in flight included; None: no bound."""

    selection: Selection
    residency: Residency
    memos: Memos
    memory_bytes: int | None = None

    @staticmethod
    def open(base: str, experts: Mapping[str, str], include: str, hold: bool = False) -> Bank:
        """Check everything first. UsageError names the model, file or tensor at fault.

        `hold`: all tensors are held on the host; else each is read from disk when it is used.
        """
        selection = Selection.open(base, experts, include)
        homes = dict.fromkeys(selection.names, Home.HOST) if hold else {}
        return Bank(selection, Residency(selection, homes), Memos(len(selection.names)))

    @staticmethod
    def within(
        selection: Selection,
        memory_bytes: int | None,
        *,
        device: torch.device | None = None,
        device_bytes: float = 0,
        host_bytes: float = math.inf,
        keep: Keep | None = None,
    ) -> Bank:
        """A bank that holds what fits. UsageError where not even tensors in flight fit.

        `memory_bytes` is for all that driver and worker need of it (budget.py); without it,
        `host_bytes` is for tensors held and in flight. `device_bytes`: on the device.
        """
        most_bytes = MEMO_BYTES
        if memory_bytes is not None:
            host_bytes = tensor_share(memory_bytes)
            most_bytes = min(most_bytes, statistics_share(memory_bytes))
        homes = choose_homes(selection.sizes(selection.names), host_bytes, device_bytes)
        memos = Memos(len(selection.names), most_bytes, keep)
        return Bank(selection, Residency(selection, homes, device), memos, memory_bytes)

    def tensors(self, name: str) -> TensorSet:
        """The tensor of that name of the base and of every expert."""
        return self.residency.tensors(name)

    def memo(self, name: str) -> Memo:
        """Statistics of this tensor's task vectors that were computed before."""
        return self.memos.of(name)

    def check_finite(self, name: str) -> None:
        """UsageError if a checkpoint itself holds NaN or Inf in this tensor."""
        tensors = self.tensors(name)
        models = {"the base": (self.selection.base, tensors.base)}
        for expert, tensor in tensors.experts.items():
            models[f"expert {expert}"] = (self.selection.experts[expert], tensor)
        for model, (checkpoint, tensor) in models.items():
            if not tensor.isfinite().all():
                file = checkpoint.entries[name].file
                raise UsageError(f"{file}: {name} of {model} holds NaN or Inf")
