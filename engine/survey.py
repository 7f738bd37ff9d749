"""What is measured of a candidate's update before anything is paid for.

Its norm, its linear equivalent, and a sketch by which like updates are found. Of a fused plan by one
sweep of each tensor, so that the update u is never materialised: coefficients guessed from a sample
are taken off first, and what is left, u - sum g_j t_j, is so small where the update is nearly linear
that float32 sums of it lose nothing. Of the other tiers tensor by tensor, in float64.
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
    """Of the rest r = u - sum g_j t_j of an update: |r|^2 and <r, t_j>."""

    square: float
    products: Tensor  # [K] float64

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.square + other.square, self.products + other.products)

    def moved(self, by: Tensor, gram: Tensor) -> Moments:
        """Of r - sum by_j t_j."""
        square = float(self.square - 2 * by @ self.products + by @ gram @ by)
        return Moments(max(0.0, square), self.products - gram @ by)


@dataclass
class Surveyor:
    """Surveys candidates of one bank."""

    bank: Bank
    backend: Backend
    _grams: dict[str, Tensor] = field(default_factory=dict)
    _sampled: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def survey(self, plan: MergePlan) -> Survey:
        """Raises Rejected (nonfinite)."""
        pieces = self.pieces(plan)
        guess, count = self.guess(pieces), len(self.bank.experts)
        gram, rest = torch.zeros(count, count, dtype=torch.float64), Moments(0.0, 0 * guess)
        for name in plan.tensors:
            gram, rest = gram + self.gram(name), rest + self.rest(plan, name, guess)
        whole = rest.moved(-guess, gram)
        norm = math.sqrt(whole.square)
        if norm == 0.0:
            return Survey(0.0, (), LinearEquivalent((0.0,) * count, 0.0))
        coefficients = solve(gram, whole.products)
        left = rest.moved(torch.tensor(coefficients, dtype=torch.float64) - guess, gram)
        lengths = gram.diagonal().sqrt()
        along = torch.where(lengths > 0, whole.products / lengths, torch.zeros_like(lengths))
        sketch = (*along.tolist(), *self.sample(pieces).tolist())
        residual = math.sqrt(left.square) / norm
        return Survey(norm, sketch, LinearEquivalent(coefficients, residual))

    def gram(self, name: str) -> Tensor:
        if name not in self._grams:
            self._grams[name] = gram_of(self.bank.tensors(name))
        return self._grams[name]

    # ---- one tensor

    def rest(self, plan: MergePlan, name: str, guess: Tensor) -> Moments:
        """Of one tensor's update without the guess."""
        graph, tensors = plan.tensors[name].graph, self.bank.tensors(name)
        if graph is not None:
            sums = rest_plan(graph, tuple(self.bank.experts), tuple(guess.tolist()))
            square, *products = self.values(sums, tensors)
            if all(map(math.isfinite, (square, *products))):
                return Moments(square, torch.tensor(products, dtype=torch.float64))
        whole = self.moments_by_torch(tensors, self.update(plan, name))
        return whole.moved(guess, self.gram(name))

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
        return Moments(square, products)

    # ---- the sample

    def update(self, plan: MergePlan, name: str) -> Tensor:
        """The float32 update of one tensor."""
        tensors = self.bank.tensors(name)
        return update_of(plan.tensors[name], tensors, self.backend, self.bank.memo(name))

    def pieces(self, plan: MergePlan) -> dict[str, Tensor]:
        """The first elements of a few tensors' updates; float64."""
        names = list(plan.tensors)
        chosen = names[:: max(1, -(-len(names) // NUM_SAMPLED_TENSORS))]
        return {n: self.update(plan, n).reshape(-1)[:SAMPLE_ELEMENTS].double() for n in chosen}

    def guess(self, pieces: Mapping[str, Tensor]) -> Tensor:
        """[K] float64: least squares over the sample, rounded as kernels round constants."""
        count = len(self.bank.experts)
        gram, products = torch.zeros(count, count).double(), torch.zeros(count).double()
        for name, piece in pieces.items():
            vectors, squares = self.sampled(name)
            gram, products = gram + squares, products + vectors @ piece
        if not products.isfinite().all():
            return torch.zeros(count).double()
        return torch.tensor(solve(gram, products)).float().double()

    def sampled(self, name: str) -> tuple[Tensor, Tensor]:
        """The task vectors' first elements [K, n] and their products [K, K]; float64."""
        if name not in self._sampled:
            tensors = self.bank.tensors(name)
            base = tensors.base.reshape(-1)[:SAMPLE_ELEMENTS].float()
            vectors = torch.stack(
                [e.reshape(-1)[: len(base)].float() - base for e in tensors.experts.values()]
            ).double()
            self._sampled[name] = vectors, vectors @ vectors.T
        return self._sampled[name]

    def sample(self, pieces: Mapping[str, Tensor]) -> Tensor:
        """Inner products of the sample with the random directions."""
        total = torch.zeros(NUM_DIRECTIONS, dtype=torch.float64)
        for k, piece in enumerate(pieces.values()):
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
def rest_plan(graph: Graph, names: tuple[str, ...], guess: tuple[float, ...]) -> Plan:
    """A plan for |r|^2 and each <r, t_j> of r = u - sum g_j t_j."""
    builder, rest = started(graph, names)
    vectors = [builder.input(name) for name in names]
    for vector, g in zip(vectors, guess, strict=True):
        rest = builder.add(Op.SUB, rest, builder.add(Op.MUL, vector, builder.const(g)))
    outputs = [total(builder, rest, other) for other in (rest, *vectors)]
    return compile_values(builder.graph(*outputs))


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
