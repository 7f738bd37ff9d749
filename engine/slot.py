"""Memory that one tensor of base, experts and result is read into, again and again."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from ..kernels.backend import TensorSet


@dataclass
class Slot:
    """Memory by role ("", expert names, "out"), grown to the largest tensor that came."""

    most_bytes: float = math.inf  # of a tensor's base, experts and result together
    memory: dict[str, Tensor] = field(default_factory=dict)
    written: Future[Any] | None = None  # the slot's last result
    last: ref[TensorSet] | None = None  # what was read into it, if somebody still has it

    @property
    def is_free(self) -> bool:
        """Whether nobody has what was read into it last."""
        return self.last is None or self.last() is None

    def space(self, role: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Uninitialised, of this shape and dtype."""
        size_bytes = math.prod(shape) * dtype.itemsize
        held = self.memory.get(role)
        if held is None or held.numel() < size_bytes:
            held = self.memory[role] = torch.empty(size_bytes, dtype=torch.uint8)
        return held[:size_bytes].view(dtype).reshape(shape)

    def wait(self) -> None:
        """Until the slot may be read into again; raises what went wrong when writing."""
        if self.written is not None:
            self.written.result()
            self.written = None
