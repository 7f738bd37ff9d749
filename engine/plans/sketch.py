"""Sketches an update on a sample: the first elements of a few tensors.

Inner products with fixed random directions tell updates apart that have the same norm. A
least-squares fit on the sample guesses the linear equivalent, so that float32 sums over all weights
need to carry only what is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ...kernels.execution.backend import Backend
from ..weights.bank import Bank
from .apply import update_of
from .linear import solve
from .plan import Fused, Plan

NUM_DIRECTIONS = 8
NUM_SAMPLED_TENSORS = 4
# The number of elements that the sample has of each tensor.
SAMPLE_ELEMENTS = 1 << 16


@dataclass
class Sketcher:
    """Samples the updates of one bank's plans; Surveyor uses it. All numbers are float64."""

    bank: Bank
    backend: Backend
    _vectors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def pieces(self, plans: Sequence[Plan]) -> list[dict[str, Tensor]]:
        """Return the sample of each plan's update, by tensor name. Fused plans share a pass."""
        found: list[dict[str, Tensor]] = [{} for _ in plans]
        for name in dict.fromkeys(name for plan in plans for name in sampled_names(plan)):
            mine = [j for j, plan in enumerate(plans) if name in sampled_names(plan)]
            for j, update in self._starts(name, [plans[j] for j in mine], mine):
                found[j][name] = update.reshape(-1)[:SAMPLE_ELEMENTS].double()
        return found

    def _starts(
        self, name: str, plans: Sequence[Plan], numbers: Sequence[int]
    ) -> list[tuple[int, Tensor]]:
        """Return the updates of one tensor, each with its plan's number.

        The update of a fused plan has only the first rows.
        """
        tensors, memo = self.bank.tensors(name), self.bank.memo(name)
        rows, cols = tensors.shape2d
        num_rows = min(rows, -(-SAMPLE_ELEMENTS // max(1, cols)))
        own = dict(zip(numbers, (plan.tensors[name] for plan in plans), strict=True))
        kernels = {j: p.kernel for j, p in own.items() if isinstance(p, Fused)}
        starts = self.backend.starts(list(kernels.values()), tensors, memo, num_rows)
        updates: dict[int, Tensor] = dict(zip(kernels, starts, strict=True))
        for j, plan in own.items():
            if j not in updates:
                updates[j] = update_of(plan, tensors, self.backend, memo)
        return list(updates.items())

    def guess(self, pieces: Mapping[str, Tensor]) -> Tensor:
        """Return [K] least-squares coefficients over the sample.

        They are rounded as kernels round constants.
        """
        count = len(self.bank.selection.experts)
        gram, products = torch.zeros(count, count).double(), torch.zeros(count).double()
        for name, piece in pieces.items():
            vectors, squares = self.vectors(name)
            gram, products = gram + squares, products + vectors @ piece
        if not products.isfinite().all():
            return torch.zeros(count).double()
        return torch.tensor(solve(gram, products)).float().double()

    def vectors(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the task vectors' first elements [K, n], and their products [K, K]."""
        if name not in self._vectors:
            tensors = self.bank.tensors(name)
            base = tensors.base.reshape(-1)[:SAMPLE_ELEMENTS].float()
            found = torch.stack(
                [e.reshape(-1)[: len(base)].float() - base for e in tensors.experts.values()]
            ).double()
            self._vectors[name] = found, found @ found.T
        return self._vectors[name]

    def products(self, pieces: Mapping[str, Tensor]) -> Tensor:
        """Return [NUM_DIRECTIONS] inner products of the sample with the random directions."""
        total = torch.zeros(NUM_DIRECTIONS, dtype=torch.float64)
        for k, piece in enumerate(pieces.values()):
            total += self.directions[k, :, : piece.numel()] @ piece
        return total

    @cached_property
    def directions(self) -> Tensor:
        """Normal draws of shape [tensors, NUM_DIRECTIONS, SAMPLE_ELEMENTS].

        The inner product of such a draw with a vector is about as large as the vector.
        """
        draw = torch.Generator().manual_seed(0)
        shape = (NUM_SAMPLED_TENSORS, NUM_DIRECTIONS, SAMPLE_ELEMENTS)
        return torch.randn(shape, generator=draw, dtype=torch.float64)


def sampled_names(plan: Plan) -> list[str]:
    """Return at most NUM_SAMPLED_TENSORS of the plan's tensors, evenly spread."""
    names = list(plan.tensors)
    return names[:: max(1, -(-len(names) // NUM_SAMPLED_TENSORS))]
