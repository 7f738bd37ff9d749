"""Holds the selected tensors between two uses, and knows which of them an expert changed.

On the host tensors are mapped: all processes of a machine share one copy in memory. With a device
they are on the device, in the bank that the node's workers share, or in pinned memory of this process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...kernels.tensors import TensorSet
from .budget import Home
from .checkpoint import Checkpoint
from .selection import Selection
from .shared import MappedBank, pinned_copy

START_ELEMENTS = 1 << 14


class Residency:
    """Holds tensors in their homes. A tensor without a home is read from disk at each use."""

    def __init__(
        self,
        selection: Selection,
        homes: Mapping[str, Home] | None = None,
        device: torch.device | None = None,
        shared: MappedBank | None = None,
    ) -> None:
        self.selection, self.homes, self.device = selection, homes or {}, device
        self.shared = shared
        self._held: dict[str, TensorSet] = {}
        # The tensor that was read from disk last.
        self._latest: TensorSet | None = None
        self._changed: dict[str, bool] = {}

    def tensors(self, name: str) -> TensorSet:
        """Return one tensor of the base and of every expert, from its home."""
        if name in self._held:
            return self._held[name]
        if self.homes.get(name, Home.DISK) is Home.DISK:
            return self._in_flight(name)
        if self.shared is not None and name in self.shared.names:
            self._held[name] = self.shared.tensors(name)
        else:
            self._held[name] = self._each(name, self._placed(name))
        return self._held[name]

    def bring(self) -> None:
        """Bring all tensors to the device, and to pinned memory, where they have a place there.

        It takes as long as the files take to be read. Without a device there is nothing to bring: a tensor is
        mapped when it is used.
        """
        if self.device is not None:
            for name, home in self.homes.items():
                if home is not Home.DISK:
                    self.tensors(name)

    def _placed(self, name: str) -> Callable[[Checkpoint], Tensor]:
        """Return the function that brings one model's tensor to its home."""
        if self.device is None:
            return lambda checkpoint: checkpoint.mapped(name)
        device = self.device
        if self.homes[name] is Home.DEVICE:
            return lambda checkpoint: checkpoint.tensor(name).to(device)
        return lambda checkpoint: pinned_copy(checkpoint.tensor(name))

    def _each(self, name: str, read: Callable[[Checkpoint], Tensor]) -> TensorSet:
        experts = {expert: read(model) for expert, model in self.selection.experts.items()}
        return TensorSet(name, read(self.selection.base), experts)

    def _in_flight(self, name: str) -> TensorSet:
        """Read a tensor from disk and keep it: a program asks often about one tensor."""
        if self._latest is None or self._latest.name != name:
            self.release()
            self._latest = self.fetch(name)
        return self._latest

    def fetch(self, name: str) -> TensorSet:
        """Map one tensor of base and experts, and bring its pages into this process."""
        return self._each(name, lambda checkpoint: checkpoint.fetch(name))

    def drop(self, name: str) -> None:
        """Take the pages of one tensor of base and experts out of this process."""
        for checkpoint in self.selection.models:
            checkpoint.drop(name)

    def release(self) -> None:
        """Give back the memory of the tensor that was read from disk last."""
        if self._latest is not None:
            self.drop(self._latest.name)
            self._latest = None

    def changed(self, name: str) -> bool:
        """Return whether any expert changed the tensor; if none did, no program is asked."""
        if name not in self._changed:
            self._changed[name] = self._starts_changed(name) or self._whole_changed(name)
        return self._changed[name]

    def _starts_changed(self, name: str) -> bool:
        """Return whether the first values already differ; they nearly always do."""
        base, *experts = (start_of(model, name) for model in self.selection.models)
        return any(not torch.equal(start, base) for start in experts)

    def _whole_changed(self, name: str) -> bool:
        """Return whether any value of the whole tensor differs."""
        tensors = self.tensors(name)
        return any(not equal(expert, tensors.base) for expert in tensors.experts.values())


def start_of(checkpoint: Checkpoint, name: str) -> Tensor:
    """Return the first START_ELEMENTS elements of the tensor, as float32."""
    dtype = checkpoint.dtype(name)
    data = bytearray(checkpoint.start_of(name, START_ELEMENTS * dtype.itemsize))
    return torch.frombuffer(data, dtype=dtype).float() if data else torch.zeros(0)


def equal(one: Tensor, other: Tensor) -> bool:
    """Return whether all values are equal. Tensors are copied only where their dtypes differ."""
    if one.dtype is not other.dtype:
        one, other = one.float(), other.float()
    return torch.equal(one, other)
