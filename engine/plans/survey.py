"""Surveys a plan before its score is paid for.

A survey has the norm, a sketch and the linear equivalent of the plan's update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.compiler.clock import OutOfTime
from ...kernels.execution.backend import Backend
from ...kernels.stages import KernelPlan
from ..errors import Rejection
from ..trace.program_clock import running_together
from ..weights.bank import Bank
from .apply import nonfinite, update_of
from .linear import LinearEquivalent, solve
from .plan import Fused, Plan
from .sketch import Sketcher
from .sums import distance_plan, rest_plan

# Chunks are small enough for a core's cache, and for the heap to use their memory again.
CHUNK_ELEMENTS = 1 << 14


@dataclass(frozen=True)
class Survey:
    """A plan, and what is known of its update over all selected tensors; screenings compare these.

    `sketch` has inner products with fixed directions of length 1 (the experts' own), then with
    random ones on a sample. An update that differs by e * norm differs by about e * norm in each.
    """

    plan: Plan
    norm: float
    sketch: tuple[float, ...]
    linear: LinearEquivalent


@dataclass(frozen=True)
class Moments:
    """The moments |r|^2 and <r, t_j> of the rest r = u - sum g_j t_j of an update."""

    square: float
    products: Tensor  # [K] float64

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.square + other.square, self.products + other.products)

    def moved(self, by: Tensor, gram: Tensor) -> Moments:
        """Return the moments of r - sum by_j t_j; `by` is [K], `gram` [K, K]."""
        square = float(self.square - 2 * by @ self.products + by @ gram @ by)
        return Moments(max(0.0, square), self.products - gram @ by)


class OpenSurvey:
    """The sums of one plan's survey, over the tensors so far."""

    def __init__(self, plan: Plan, pieces: dict[str, Tensor], guess: Tensor) -> None:
        count = len(guess)
        self.plan, self.pieces, self.guess = plan, pieces, guess
        self.rejection: Rejection | None = None
        self.gram = torch.zeros(count, count, dtype=torch.float64)
        self.rest = Moments(0.0, torch.zeros(count, dtype=torch.float64))

    def add(self, gram: Tensor, rest: Moments | Rejection) -> None:
        """Add the sums of one more tensor, or note its rejection."""
        if isinstance(rest, Rejection):
            self.rejection = self.rejection or rest
        else:
            self.gram, self.rest = self.gram + gram, self.rest + rest


class Surveyor:
    """Surveys plans of one bank, and compares two of them. Screenings use it."""

    def __init__(self, bank: Bank, backend: Backend) -> None:
        self.bank, self.backend = bank, backend
        self.sketcher = Sketcher(bank, backend)

    def survey(self, plan: Plan) -> Survey | Rejection:
        """Survey one plan; a Rejection where its update cannot be used."""
        return self.survey_all([plan])[0]

    def survey_all(self, plans: Sequence[Plan]) -> list[Survey | Rejection]:
        """Survey many plans, tensor by tensor; fused ones share each pass over a tensor.

        Each program's clock goes on. Where one runs out, each plan is surveyed alone, so that one
        that takes too long costs only itself: `timeout`.
        """
        for plan in plans:
            self.allow(plan)
        try:
            with running_together([plan.clock for plan in plans]):
                return self._survey_all(plans)
        except OutOfTime:
            return [self._alone(plan) for plan in plans]

    def allow(self, plan: Plan) -> None:
        """Allow the plan's program the time of its survey and of comparisons with others."""
        vectors, base = len(self.bank.selection.experts), self.bank.selection.base
        for name in plan.tensors:
            plan.clock.allow(2 * 4 * vectors * math.prod(base.shape(name)))

    def _alone(self, plan: Plan) -> Survey | Rejection:
        try:
            with plan.clock.running():
                return self._survey_all([plan])[0]
        except OutOfTime as error:
            return Rejection("timeout", str(error))

    def _survey_all(self, plans: Sequence[Plan]) -> list[Survey | Rejection]:
        samples = self.sketcher.pieces(plans)
        works = [self._begun(*both) for both in zip(plans, samples, strict=True)]
        for name in dict.fromkeys(name for work in works for name in work.plan.tensors):
            gram = self.gram(name)
            for work, rest in self.rests([w for w in works if name in w.plan.tensors], name):
                work.add(gram, rest)
        return [work.rejection or self.concluded(work) for work in works]

    def _begun(self, plan: Plan, pieces: dict[str, Tensor]) -> OpenSurvey:
        """Begin the survey of a plan from the sample of its update."""
        return OpenSurvey(plan, pieces, self.sketcher.guess(pieces))

    def concluded(self, work: OpenSurvey) -> Survey:
        """Make the Survey of a plan whose tensors are all summed."""
        whole = work.rest.moved(-work.guess, work.gram)
        norm = math.sqrt(whole.square)
        if norm == 0.0:
            nothing = LinearEquivalent((0.0,) * len(work.guess), 0.0)
            return Survey(work.plan, 0.0, (), nothing)
        coefficients = solve(work.gram, whole.products)
        by = torch.tensor(coefficients, dtype=torch.float64) - work.guess
        left = work.rest.moved(by, work.gram)
        lengths = work.gram.diagonal().sqrt()
        along = torch.where(lengths > 0, whole.products / lengths, torch.zeros_like(lengths))
        sketch = (*along.tolist(), *self.sketcher.products(work.pieces).tolist())
        residual = math.sqrt(left.square) / norm
        return Survey(work.plan, norm, sketch, LinearEquivalent(coefficients, residual))

    def gram(self, name: str) -> Tensor:
        """Return the [K, K] float64 inner products of one tensor's task vectors."""
        return self.backend.moments_of(self.bank.tensors(name), self.bank.memo(name))[1:, 1:]

    # ---- one tensor

    def rests(
        self, works: Sequence[OpenSurvey], name: str
    ) -> Iterator[tuple[OpenSurvey, Moments | Rejection]]:
        """Yield the moments of one tensor's updates less their guesses.

        Kernels compute those of fused plans. Those of updates in files are summed here, and so are
        those that are not finite.
        """
        fused = [(w, p.graph) for w in works if isinstance(p := w.plan.tensors[name], Fused)]
        names = tuple(self.bank.selection.experts)
        sums = [rest_plan(graph, names, tuple(work.guess.tolist())) for work, graph in fused]
        found = {id(w): v for (w, _), v in zip(fused, self.values(sums, name), strict=True)}
        for work in works:
            square, *products = found.get(id(work), [math.nan])
            if all(map(math.isfinite, (square, *products))):
                yield work, Moments(square, torch.tensor(products, dtype=torch.float64))
                continue
            whole = self.moments_of_update(work.plan, name)
            if isinstance(whole, Moments):
                whole = whole.moved(work.guess, self.gram(name))
            yield work, whole

    def values(self, plans: Sequence[KernelPlan], name: str) -> list[list[float]]:
        """Return each plan's numbers on one tensor, in one pass for all where it can be."""
        count = len(plans)
        sets, memos = [self.bank.tensors(name)] * count, [self.bank.memo(name)] * count
        found = self.backend.values_all(plans, sets, memos)
        return [[float(value) for value in values] for values in found]

    def moments_of_update(self, plan: Plan, name: str) -> Moments | Rejection:
        """Return |u|^2 and <u, t_j> in double precision.

        Returns the rejection `nonfinite` where the update cannot be used.
        """
        tensors, update = self.bank.tensors(name), self.update(plan, name)
        if not update.isfinite().all():
            return nonfinite(name, self.bank, "update")
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
        """Return the float32 update of one tensor."""
        tensors = self.bank.tensors(name)
        return update_of(plan.tensors[name], tensors, self.backend, self.bank.memo(name))

    def distance(self, plan: Plan, other: Plan, name: str) -> float:
        """Return |u - v|^2 of two plans' updates of one tensor.

        Raises OutOfTime where the clock of `other`'s program runs out, which is the newer one.
        """
        with other.clock.running():
            return self._distance(plan, other, name)

    def _distance(self, plan: Plan, other: Plan, name: str) -> float:
        mine, theirs = plan.tensors[name], other.tensors[name]
        if isinstance(mine, Fused) and isinstance(theirs, Fused):
            names = tuple(self.bank.selection.experts)
            ((square,),) = self.values([distance_plan(mine.graph, theirs.graph, names)], name)
            return square
        u, v = self.update(plan, name), self.update(other, name)
        return float((u.double() - v.double()).square().sum())
