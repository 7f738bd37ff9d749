"""The linear equivalent of a merge: least-squares coefficients on the task vectors, and what is left.

From inner products only: with Gram matrix G = <t_i, t_j>, moments m = <u, t_i> and |u|^2 over all
selected tensors, the coefficients solve G c = m, and |u - fit|^2 = |u|^2 - m.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels.backend import Backend, TensorSet
from ..kernels.ir import Builder, Op, Space
from ..kernels.passes import compile_values
from .bank import Bank


@dataclass
class LinearFit:
    """Accumulates one candidate's moments tensor by tensor."""

    names: tuple[str, ...]
    gram: Tensor
    moments: Tensor
    square: float = 0.0

    @staticmethod
    def start(names: tuple[str, ...]) -> LinearFit:
        count = len(names)
        zeros = torch.zeros(count, count, dtype=torch.float64)
        return LinearFit(names, zeros, torch.zeros(count, dtype=torch.float64))

    def add(self, update: Tensor, tensors: TensorSet, gram: Tensor) -> None:
        """One tensor's float32 update, and the Gram matrix of its task vectors."""
        flat = update.reshape(-1).double()
        base = tensors.base.float()
        for i, name in enumerate(self.names):
            vector = (tensors.experts[name].float() - base).reshape(-1).double()
            self.moments[i] += torch.dot(flat, vector)
        self.square += float(torch.dot(flat, flat))
        self.gram += gram

    def result(self) -> dict[str, Any]:
        """{"coefficients": {expert: c}, "residual": ||update - fit|| / ||update||}"""
        solved = torch.linalg.lstsq(self.gram, self.moments[:, None], driver="gelsd").solution
        coefficients = solved[:, 0]
        left = max(0.0, self.square - float(coefficients @ self.moments))
        residual = (left / self.square) ** 0.5 if self.square > 0 else 0.0
        named = zip(self.names, coefficients.tolist(), strict=True)
        return {"coefficients": dict(named), "residual": residual}


def gram_of(tensors: TensorSet, backend: Backend, memo: dict[str, Tensor]) -> Tensor:
    """[K, K] float64 inner products of one tensor's task vectors, by a memoised sweep."""
    names, builder = tuple(tensors.experts), Builder()
    inputs = [builder.input(name) for name in names]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1)]
    dots = [
        builder.add(Op.REDUCE_SUM, builder.add(Op.MUL, inputs[i], inputs[j]), space=Space.SCALAR)
        for i, j in pairs
    ]
    values = backend.values(compile_values(builder.graph(*dots)), tensors, memo)
    gram = torch.zeros(len(names), len(names), dtype=torch.float64)
    for (i, j), value in zip(pairs, values, strict=True):
        gram[i, j] = gram[j, i] = float(value)
    return gram


def linear_equivalent(
    updates: Mapping[str, Tensor], bank: Bank, backend: Backend
) -> dict[str, Any]:
    """Of updates by tensor name; tensors without one count as no update."""
    fit = LinearFit.start(tuple(bank.experts))
    for name, update in updates.items():
        tensors = bank.tensors(name)
        fit.add(update, tensors, gram_of(tensors, backend, bank.memo(name)))
    return fit.result()
