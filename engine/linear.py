"""The linear equivalent of a merge: least-squares coefficients on the task vectors, and what is left.

From inner products only: with Gram matrix G = <t_i, t_j>, moments m = <u, t_i> and |u|^2 over all
selected tensors, the coefficients solve G c = m, and |u - fit|^2 = |u|^2 - m.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels.backend import TensorSet

GRAM = "gram, float64"


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


def gram_of(tensors: TensorSet, memo: dict[str, Tensor]) -> Tensor:
    """[K, K] float64 inner products of one tensor's task vectors; computed once, in float64.

    Not the float32 statistics of a sweep: the residual is a difference of two of these.
    """
    if GRAM not in memo:
        base = tensors.base.float()
        rows = [(e.float() - base).reshape(-1).double() for e in tensors.experts.values()]
        vectors = torch.stack(rows)
        memo[GRAM] = vectors @ vectors.T
    return memo[GRAM]
