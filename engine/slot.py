"""Room for one tensor of base, experts and result, used again and again."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels.backend import TensorSet
from .bank import Bank


@dataclass
class Slot:
    """Mapped tensors of base and experts, and memory for the result, grown to the largest that came."""

    most_bytes: float = math.inf  # of a tensor's base, experts and result together
    written: Future[Any] | None = None  # the last result
    held: str | None = None  # the tensor whose pages it holds
    _memory: Tensor | None = None

    def fetch(self, bank: Bank, name: str) -> TensorSet:
        """That tensor in place of the one before, once that one's result is written."""
        self.release(bank)
        self.held = name
        return bank.fetch(name)

    def release(self, bank: Bank) -> None:
        """Wait for what is written, and raise what went wrong; then let the tensor go."""
        if self.written is not None:
            self.written.result()
            self.written = None
        if self.held is not None:
            bank.drop(self.held)
            self.held = None

    def out(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """For the result: uninitialised."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if self._memory is None or self._memory.numel() < size_bytes:
            self._memory = torch.empty(size_bytes, dtype=torch.uint8)
        return self._memory[:size_bytes].view(dtype).reshape(shape)
