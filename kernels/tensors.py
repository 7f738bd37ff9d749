"""The tensors that kernels read and write, and the statistics that are kept of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .stages import KernelPlan

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class TensorSet:
    """One checkpoint tensor of the base and of every expert: equal shapes, contiguous, 1-D or 2-D."""

    name: str
    base: Tensor
    experts: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for tensor in (self.base, *self.experts.values()):
            assert tensor.shape == self.base.shape, f"{tensor.shape} beside {self.base.shape}"
            assert tensor.is_contiguous(), f"{self.name} is not contiguous"
            assert tensor.dtype in DTYPES, f"{self.name} is {tensor.dtype}"

    @property
    def shape2d(self) -> tuple[int, int]:
        """(R, C); a 1-D tensor is one row."""
        *rows, cols = self.base.shape or (1,)
        return math.prod(rows), cols

    def first(self, num_rows: int) -> TensorSet:
        """The first rows as a matrix, not copied."""
        experts = {n: e.reshape(self.shape2d)[:num_rows] for n, e in self.experts.items()}
        return TensorSet(self.name, self.base.reshape(self.shape2d)[:num_rows], experts)

    def vector(self, name: str, dtype: torch.dtype) -> Tensor:
        """The task vector [R, C]: subtracted in float32, as the contract says."""
        delta = self.experts[name].float() - self.base.float()
        return delta.reshape(self.shape2d).to(dtype)


@dataclass(frozen=True)
class Job:
    """One tensor's plan, and where its result goes (the base's dtype and shape)."""

    plan: KernelPlan
    tensors: TensorSet
    out: Tensor
    memo: Memo | None = None


Slots = list[Tensor | None]
Memo = MutableMapping[str, Tensor]
