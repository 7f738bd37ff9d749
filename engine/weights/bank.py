"""The bank: the selected tensors of base and experts, where they are held, and their statistics.

Planning, surveys, swaps and merges reach tensors through it.
"""

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
from .shared import MappedBank

# Gets a tensor's name and its memo; returns a memo around it that outlives the process.
Keep = Callable[[str, Memo], Memo]


@dataclass(frozen=True)
class Bank:
    """The selected tensors, and the memory that they and their statistics may take.

    `merge_to_folder` makes one by `open`; the driver and the worker of a screening by `within`.
    `memory_bytes` bounds all of it, statistics and tensors in flight included; None means no bound.
    """

    selection: Selection
    residency: Residency
    memos: Memos
    memory_bytes: int | None = None

    @staticmethod
    def open(base: str, experts: Mapping[str, str], include: str, hold: bool = False) -> Bank:
        """Open a bank that has no bound on its memory, and check all headers first.

        `experts` are folders or hub ids by name. With `hold` all tensors are held on the host;
        without it each is read from disk when it is used. UsageError names the model, file or
        tensor at fault.
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
        shared: MappedBank | None = None,
        keep: Keep | None = None,
    ) -> Bank:
        """Make a bank that holds as many tensors as fit.

        `memory_bytes` bounds all that driver and worker need of it (budget.py), and `host_bytes` the
        tensors that are held and in flight. `device_bytes` may be held on `device`. What is in `shared` is
        there, and counts as nothing. `keep` wraps each tensor's memo. UsageError where not even the tensors
        in flight fit.
        """
        most_bytes = MEMO_BYTES
        if memory_bytes is not None:
            host_bytes = min(host_bytes, tensor_share(memory_bytes))
            most_bytes = min(most_bytes, statistics_share(memory_bytes))
        there = shared.names if shared else frozenset[str]()
        rest = [name for name in selection.names if name not in there]
        chosen = choose_homes(selection.sizes(rest), host_bytes, device_bytes)
        homes = {name: chosen.get(name, Home.HOST) for name in selection.names}
        memos = Memos(len(selection.names), most_bytes, keep)
        return Bank(selection, Residency(selection, homes, device, shared), memos, memory_bytes)

    def tensors(self, name: str) -> TensorSet:
        """Return one tensor of the base and of every expert, from where it is held."""
        return self.residency.tensors(name)

    def memo(self, name: str) -> Memo:
        """Return the known statistics of this tensor's task vectors; backends add to them."""
        return self.memos.of(name)

    def check_finite(self, name: str) -> None:
        """Raise UsageError if a checkpoint itself holds NaN or Inf in this tensor."""
        tensors = self.tensors(name)
        models = {"the base": (self.selection.base, tensors.base)}
        for expert, tensor in tensors.experts.items():
            models[f"expert {expert}"] = (self.selection.experts[expert], tensor)
        for model, (checkpoint, tensor) in models.items():
            if not tensor.isfinite().all():
                file = checkpoint.entries[name].file
                raise UsageError(f"{file}: {name} of {model} holds NaN or Inf")
