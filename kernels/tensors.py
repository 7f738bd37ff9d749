"""The tensors that kernels read and write, and the statistics of them that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .stages import KernelPlan

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def matrix_of(shape: Sequence[int]) -> tuple[int, int]:
    """Return (R, C) of a shape: one axis is one row, axes before the last are rows."""
    *rows, cols = shape or (1,)
    return math.prod(rows), cols


@dataclass(frozen=True)
class TensorSet:
    """One checkpoint tensor of the base and of every expert.

    All have one shape. They are contiguous and of a dtype in DTYPES, which may differ between
    them. Wrong tensors are a bug of the caller: an assertion says so.
    """

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
        """The shape as the matrix (R, C) that kernels see."""
        return matrix_of(self.base.shape)

    def first(self, num_rows: int) -> TensorSet:
        """Return the first rows as matrices that share this set's memory."""
        experts = {n: e.reshape(self.shape2d)[:num_rows] for n, e in self.experts.items()}
        return TensorSet(self.name, self.base.reshape(self.shape2d)[:num_rows], experts)

    def vector(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return an expert's task vector [R, C]: expert - base in float32, then cast to `dtype`."""
        delta = self.experts[name].float() - self.base.float()
        return delta.reshape(self.shape2d).to(dtype)


@dataclass(frozen=True)
class Job:
    """One tensor's merge: its plan, and where the result goes."""

    plan: KernelPlan
    tensors: TensorSet
    out: Tensor  # has the base's dtype and shape
    memo: Memo | None = None


Slots = list[Tensor | None]  # by number; None until a stage fills it
Memo = MutableMapping[str, Tensor]  # a tensor's statistics by key; it may forget, and refuse
