"""The linear equivalent of a merge: least-squares coefficients on the task vectors, and the rest.

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
    """The coefficients c with |u - sum c_i t_i| smallest, one for each expert, in order.

    `residual` is that distance relative to |u|, and 0 where there is no update.
    """

    coefficients: tuple[float, ...]
    residual: float

    def to_json(self, names: Sequence[str]) -> dict[str, object]:
        coefficients = dict(zip(names, self.coefficients, strict=True))
        return {"coefficients": coefficients, "residual": self.residual}


def solve(gram: Tensor, moments: Tensor) -> tuple[float, ...]:
    """Return the K least-squares coefficients, given the Gram matrix [K, K] and the moments [K].

    Where experts are dependent they are the smallest ones.
    """
    solved = torch.linalg.lstsq(gram, moments[:, None], driver="gelsd").solution
    return tuple(solved[:, 0].tolist())
