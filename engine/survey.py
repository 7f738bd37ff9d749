"""What is measured of a candidate's update before anything is paid for.

Its norm, its linear equivalent, and a sketch by which like updates are found. Of a fused plan by
sweeps, so that the update is never materialised: one pass for the inner products, one for what the
linear equivalent leaves. Of the other tiers tensor by tensor, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..kernels.backend import Backend, TensorSet
from ..kernels.ir import ELEMENTWISE, Builder, Graph, Op, Space
from ..kernels.passes import compile_values
from ..kernels.stages import Plan
from .apply import update_of
from .bank import Bank
from .errors import Rejected, Rejection
from .linear import CHUNK_ELEMENTS, LinearEquivalent, gram_of, solve
from .plan import MergePlan

NUM_DIRECTIONS = 8
NUM_SAMPLED_TENSORS = 4
SAMPLE_ELEMENTS = 1 << 16  # of each sampled tensor


@dataclass(frozen=True)
class Survey:
    """`sketch`: inner products with fixed directions of length 1 (the experts' own), then with
    random ones on a sample; an update that differs by e * norm differs by about e * norm in each."""

    norm: float
    sketch: tuple[float, ...]
    linear: LinearEquivalent


@dataclass(frozen=True)
class Moments:
    """Of one tensor's update u: |u|^2 and <u, t_j>. `exact`: float64, so that differences hold."""

    square: float
    products: Tensor  # [K] float64
    exact: bool


@dataclass
class Surveyor:
    """Surveys candidates of one bank."""

    bank: Bank
    backend: Backend
    _grams: dict[str, Tensor] = field(default_factory=dict)

    def survey(self, plan: MergePlan) -> Survey:
        """Raises Rejected (nonfinite)."""
        found = {name: self.moments(plan, name) for name in plan.tensors}
        count = len(self.bank.experts)
        gram = sum((self.gram(n) for n in found), torch.zeros(count, count, dtype=torch.float64))
        products = sum((m.products for m in found.values()), torch.zeros(count).double())
        norm = math.sqrt(sum(m.square for m in found.values()))
        if norm == 0.0:
            return Survey(0.0, (), LinearEquivalent((0.0,) * count, 0.0))
        coefficients = solve(gram, products)
        left = self.left(plan, found, coefficients)
        lengths = gram.diagonal().sqrt()
        along = torch.where(lengths > 0, products / lengths, torch.zeros_like(products))
        sketch = (*along.tolist(), *self.sample(plan).tolist())
        return Survey(norm, sketch, LinearEquivalent(coefficients, math.sqrt(left) / norm))

    def gram(self, name: str) -> Tensor:
        if name not in self._grams:
            self._grams[name] = gram_of(self.bank.tensors(name))
        return self._grams[name]

    # ---- one tensor

    def moments(self, plan: MergePlan, name: str) -> Moments:
        graph, tensors = plan.tensors[name].graph, self.bank.tensors(name)
        if graph is not None:
            sums = moments_plan(graph, tuple(self.bank.experts))
            square, *products = self.values(sums, tensors)
            if all(map(math.isfinite, (square, *products))):
                return Moments(square, torch.tensor(products, dtype=torch.float64), exact=False)
        return self.moments_by_torch(tensors, self.update(plan, name))

    def values(self, plan: Plan, tensors: TensorSet) -> list[float]:
        memo = self.bank.memo(tensors.name)
        return [float(value) for value in self.backend.values(plan, tensors, memo)]

    def moments_by_torch(self, tensors: TensorSet, update: Tensor) -> Moments:
        if not update.isfinite().all():
            self.bank.check_finite(tensors.name)
            raise Rejected(Rejection("nonfinite", f"the update holds NaN or Inf in {tensors.name}"))
        flat, base = update.reshape(-1), tensors.base.reshape(-1)
        square, products = 0.0, torch.zeros(len(tensors.experts), dtype=torch.float64)
        for start in range(0, flat.numel(), CHUNK_ELEMENTS):
            piece = slice(start, start + CHUNK_ELEMENTS)
            u, below = flat[piece].double(), base[piece].float()
            square += float(u @ u)
            for j, expert in enumerate(tensors.experts.values()):
                products[j] += u @ (expert.reshape(-1)[piece].float() - below).double()
        return Moments(square, products, exact=True)

    def left(
        self, plan: MergePlan, found: Mapping[str, Moments], coefficients: tuple[float, ...]
    ) -> float:
        """|u - sum c_j t_j|^2 over all tensors."""
        total, c = 0.0, torch.tensor(coefficients, dtype=torch.float64)
        for name, m in found.items():
            graph = plan.tensors[name].graph
            if graph is None or m.exact:
                total += float(m.square - 2 * c @ m.products + c @ self.gram(name) @ c)
                continue
            rest = residual_plan(graph, tuple(self.bank.experts), coefficients)
            total += self.values(rest, self.bank.tensors(name))[0]
        return max(0.0, total)

    # ---- the sample

    def update(self, plan: MergePlan, name: str) -> Tensor:
        """The float32 update of one tensor."""
        tensors = self.bank.tensors(name)
        return update_of(plan.tensors[name], tensors, self.backend, self.bank.memo(name))

    def sample(self, plan: MergePlan) -> Tensor:
        """Inner products of a few tensors' first elements with the random directions; float64."""
        names = list(plan.tensors)
        chosen = names[:: max(1, -(-len(names) // NUM_SAMPLED_TENSORS))]
        total = torch.zeros(NUM_DIRECTIONS, dtype=torch.float64)
        for k, name in enumerate(chosen):
            piece = self.update(plan, name).reshape(-1)[:SAMPLE_ELEMENTS].double()
            total += self.directions[k, :, : piece.numel()] @ piece
        return total

    @cached_property
    def directions(self) -> Tensor:
        """[tensors, NUM_DIRECTIONS, SAMPLE_ELEMENTS] float64: normal draws, so that the inner
        product with a vector is about as large as the vector."""
        draw = torch.Generator().manual_seed(0)
        shape = (NUM_SAMPLED_TENSORS, NUM_DIRECTIONS, SAMPLE_ELEMENTS)
        return torch.randn(shape, generator=draw, dtype=torch.float64)


# ---- sums over an update as graphs ------------------------------------------------------------------


@lru_cache(maxsize=256)
def moments_plan(graph: Graph, names: tuple[str, ...]) -> Plan:
    """A plan for |u|^2 and each <u, t_j>."""
    builder, update = started(graph, names)
    vectors = [builder.input(name) for name in names]
    outputs = [total(builder, update, other) for other in (update, *vectors)]
    return compile_values(builder.graph(*outputs))


@lru_cache(maxsize=256)
def residual_plan(graph: Graph, names: tuple[str, ...], coefficients: tuple[float, ...]) -> Plan:
    """A plan for |u - sum c_j t_j|^2."""
    builder, rest = started(graph, names)
    for name, c in zip(names, coefficients, strict=True):
        scaled = builder.add(Op.MUL, builder.input(name), builder.const(c))
        rest = builder.add(Op.SUB, rest, scaled)
    return compile_values(builder.graph(total(builder, rest, rest)))


def started(graph: Graph, names: tuple[str, ...]) -> tuple[Builder, int]:
    """A builder that holds the graph, and its update as a FULL value."""
    builder, new = Builder(), list[int]()
    for node in graph.nodes:
        space = None if node.op in ELEMENTWISE else node.space
        args = (new[a] for a in node.args)
        new.append(builder.add(node.op, *args, attrs=node.attrs, space=space))
    update = new[graph.outputs[0]]
    if builder.nodes[update].space is not Space.FULL:  # 0 * t spreads it; x + 0 is x
        nothing = builder.add(Op.MUL, builder.input(names[0]), builder.const(0.0))
        update = builder.add(Op.ADD, update, nothing)
    return builder, update


def total(builder: Builder, x: int, y: int) -> int:
    return builder.add(Op.REDUCE_SUM, builder.add(Op.MUL, x, y), space=Space.SCALAR)
