"""The linear equivalent of a merge: least-squares coefficients on the task vectors, and what is left.

Inner products over all selected tensors give the coefficients: with the Gram matrix G = <t_i, t_j>
and moments m = <u, t_i> they solve G c = m. The residual |u - sum c_i t_i| is then measured, not
computed as |u|^2 - m.c: that difference of two float32 statistics would drown below 1e-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearEquivalent:
    """c with |u - sum c_i t_i| smallest, and that distance relative to |u| (0 for no update)."""

    coefficients: tuple[float, ...]
    residual: float

    def to_json(self, names: Sequence[str]) -> dict[str, object]:
        coefficients = dict(zip(names, self.coefficients, strict=True))
        return {"coefficients": coefficients, "residual": self.residual}


def solve(gram: Tensor, moments: Tensor) -> tuple[float, ...]:
    """The coefficients of least squares; the smallest ones where experts are dependent."""
    solved = torch.linalg.lstsq(gram, moments[:, None], driver="gelsd").solution
    return tuple(solved[:, 0].tolist())
