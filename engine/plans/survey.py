"""The linear equivalent of a merge: least-squares coefficients on the task vectors, and what is left.

Inner products over all selected tensors give the coefficients: with the Gram matrix G = <t_i, t_j>
and moments m = <u, t_i> they solve G c = m. The residual |u - sum c_i t_i| is then measured, not
computed as |u|^2 - m.c: that difference of two float32 statistics would drown below 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...kernels.execution.backend import Backend
from ...kernels.stages import KernelPlan
from ..errors import Rejected, Rejection
from ..weights.bank import Bank
from .apply import update_of
from .plan import Plan
from .sums import distance_plan, rest_plan


@dataclass(frozen=True)
class LinearEquivalent:
    """c with |u - sum c_i t_i| smallest, and that distance relative to |u| (0 for no update)."""

    coefficients: tuple[float, ...]
    residual: float

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        coefficients = dict(zip(names, self.coefficients, strict=True))
        return {"coefficients": coefficients, "residual": self.residual}


def solve(gram: Tensor, moments: Tensor) -> tuple[float, ...]:
    """The coefficients of least squares; the smallest ones where experts are dependent."""
    solved = torch.linalg.lstsq(gram, moments[:, None], driver="gelsd").solution
    return tuple(solved[:, 0].tolist())


NUM_DIRECTIONS = 8
NUM_SAMPLED_TENSORS = 4
SAMPLE_ELEMENTS = 1 << 16  # of each sampled tensor
CHUNK_ELEMENTS = 1 << 14  # small enough for a core's cache, and for the heap to use again


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
    _sampled: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def survey(self, plan: Plan) -> Survey:
        """Raises Rejected (nonfinite)."""
        (found,) = self.survey_all([plan])
        if isinstance(found, Rejected):
            raise found
        return found

    def survey_all(self, plans: Sequence[Plan]) -> list[Survey | Rejected]:
        """Of many plans, tensor by tensor: fused ones share its passes."""
        pieces = self.pieces(plans)
        works = [Work(p, own, self.guess(own)) for p, own in zip(plans, pieces, strict=True)]
        for name in dict.fromkeys(name for plan in plans for name in plan.tensors):
            gram = self.gram(name)
            for work, rest in self.rests([w for w in works if name in w.plan.tensors], name):
                work.add(gram, rest)
        return [work.rejected or self.concluded(work) for work in works]

    def concluded(self, work: Work) -> Survey:
        whole = work.rest.moved(-work.guess, work.gram)
        norm = math.sqrt(whole.square)
        if norm == 0.0:
            return Survey(0.0, (), LinearEquivalent((0.0,) * len(work.guess), 0.0))
        coefficients = solve(work.gram, whole.products)
        by = torch.tensor(coefficients, dtype=torch.float64) - work.guess
        left = work.rest.moved(by, work.gram)
        lengths = work.gram.diagonal().sqrt()
        along = torch.where(lengths > 0, whole.products / lengths, torch.zeros_like(lengths))
        sketch = (*along.tolist(), *self.sample(work.pieces).tolist())
        residual = math.sqrt(left.square) / norm
        return Survey(norm, sketch, LinearEquivalent(coefficients, residual))

    def gram(self, name: str) -> Tensor:
        """[K, K] float64 inner products of one tensor's task vectors."""
        return self.backend.moments_of(self.bank.tensors(name), self.bank.memo(name))[1:, 1:]

    # ---- one tensor

    def rests(self, works: Sequence[Work], name: str) -> Iterator[tuple[Work, Moments | Rejected]]:
        """Of one tensor's updates without their guesses."""
        fused = [(w, g) for w in works if (g := w.plan.tensors[name].graph) is not None]
        names = tuple(self.bank.experts)
        sums = [rest_plan(graph, names, tuple(work.guess.tolist())) for work, graph in fused]
        found = {id(w): v for (w, _), v in zip(fused, self.values(sums, name), strict=True)}
        for work in works:
            square, *products = found.get(id(work), [math.nan])
            if all(map(math.isfinite, (square, *products))):
                yield work, Moments(square, torch.tensor(products, dtype=torch.float64))
                continue
            try:
                whole = self.moments_by_torch(name, self.update(work.plan, name))
                yield work, whole.moved(work.guess, self.gram(name))
            except Rejected as rejected:
                yield work, rejected

    def values(self, plans: Sequence[KernelPlan], name: str) -> list[list[float]]:
        count = len(plans)
        sets, memos = [self.bank.tensors(name)] * count, [self.bank.memo(name)] * count
        found = self.backend.values_all(plans, sets, memos)
        return [[float(value) for value in values] for values in found]

    def moments_by_torch(self, name: str, update: Tensor) -> Moments:
        tensors = self.bank.tensors(name)
        if not update.isfinite().all():
            self.bank.check_finite(name)
            raise Rejected(Rejection("nonfinite", f"the update holds NaN or Inf in {name}"))
        flat, base = update.reshape(-1), tensors.base.reshape(-1)
        square, products = 0.0, torch.zeros(len(tensors.experts), dtype=torch.float64)
        for start in range(0, flat.numel(), CHUNK_ELEMENTS):
            piece = slice(start, start + CHUNK_ELEMENTS)
            u, below = flat[piece].double(), base[piece].float()
            square += float(u @ u)
            for j, expert in enumerate(tensors.experts.values()):
                products[j] += u @ (expert.reshape(-1)[piece].float() - below).double()
        return Moments(square, products)

    def update(self, plan: Plan, name: str) -> Tensor:
        """The float32 update of one tensor."""
        tensors = self.bank.tensors(name)
        return update_of(plan.tensors[name], tensors, self.backend, self.bank.memo(name))

    def distance(self, plan: Plan, other: Plan, name: str) -> float:
        """|u - v|^2 of two plans' updates of one tensor."""
        graphs = plan.tensors[name].graph, other.tensors[name].graph
        if graphs[0] is not None and graphs[1] is not None:
            difference = distance_plan(graphs[0], graphs[1], tuple(self.bank.experts))
            ((square,),) = self.values([difference], name)
            return square
        mine, theirs = (self.update(p, name).double() for p in (plan, other))
        return float((mine - theirs).square().sum())

    # ---- the sample

    def pieces(self, plans: Sequence[Plan]) -> list[dict[str, Tensor]]:
        """Of each plan, the first elements of a few tensors' updates; float64."""
        found: list[dict[str, Tensor]] = [{} for _ in plans]
        for name in dict.fromkeys(name for plan in plans for name in sampled_names(plan)):
            tensors, memo = self.bank.tensors(name), self.bank.memo(name)
            rows, cols = tensors.shape2d
            num_rows = min(rows, -(-SAMPLE_ELEMENTS // max(1, cols)))
            mine = [j for j, plan in enumerate(plans) if name in sampled_names(plan)]
            fused = [j for j in mine if plans[j].tensors[name].graph is not None]
            kernels = [plans[j].tensors[name].kernel for j in fused]
            starts = self.backend.starts(kernels, tensors, memo, num_rows)
            updates = dict(zip(fused, starts, strict=True))
            for j in mine:
                update = updates[j] if j in updates else self.update(plans[j], name)
                found[j][name] = update.reshape(-1)[:SAMPLE_ELEMENTS].double()
        return found

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


@dataclass
class Work:
    """One plan's survey under way: what its tensors came to so far."""

    plan: Plan
    pieces: dict[str, Tensor]
    guess: Tensor
    rejected: Rejected | None = None

    def __post_init__(self) -> None:
        count = len(self.guess)
        self.gram = torch.zeros(count, count, dtype=torch.float64)
        self.rest = Moments(0.0, torch.zeros(count, dtype=torch.float64))

    def add(self, gram: Tensor, rest: Moments | Rejected) -> None:
        if isinstance(rest, Rejected):
            self.rejected = self.rejected or rest
        else:
            self.gram, self.rest = self.gram + gram, self.rest + rest


def sampled_names(plan: Plan) -> list[str]:
    names = list(plan.tensors)
    return names[:: max(1, -(-len(names) // NUM_SAMPLED_TENSORS))]
