"""Who is whose duplicate: equal plans, or float32 updates within 1e-5 of their norm.

A fixed sample of real tensors says whom to compare; a duplicate is confirmed over all selected
tensors before a score is copied. A program that changes nothing is a duplicate of the base.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..kernels.backend import Backend
from .apply import update_of
from .bank import Bank
from .errors import Rejected, Rejection
from .linear import LinearFit, gram_of
from .plan import MergePlan

TOLERANCE = 1e-5
SAMPLE_ELEMENTS = 1 << 20
BASE = "base"


@dataclass(frozen=True)
class Survey:
    """What one pass over a candidate's updates tells."""

    sample: Tensor  # float32, of the sampled tensors
    norm: float  # over all selected tensors
    fit: LinearFit


@dataclass
class Seen:
    """Scored candidates so far."""

    bank: Bank
    backend: Backend
    plans: dict[str, MergePlan] = field(default_factory=dict)
    samples: dict[str, Tensor] = field(default_factory=dict)
    by_plan: dict[str, str] = field(default_factory=dict)

    def survey(self, plan: MergePlan) -> Survey:
        """Run over all updates once. Raises Rejected (nonfinite)."""
        fit, pieces, taken = LinearFit.start(tuple(self.bank.experts)), list[Tensor](), 0
        for name in plan.tensors:
            tensors = self.bank.tensors(name)
            update = self.update(plan, name)
            if not update.isfinite().all():
                self.bank.check_finite(name)
                raise Rejected(Rejection("nonfinite", f"the update holds NaN or Inf in {name}"))
            fit.add(update, tensors, gram_of(tensors, self.bank.memo(name)))
            if taken < SAMPLE_ELEMENTS:
                pieces.append(update.reshape(-1)[: SAMPLE_ELEMENTS - taken])
                taken += pieces[-1].numel()
        sample = torch.cat(pieces) if pieces else torch.zeros(0)
        return Survey(sample, fit.square**0.5, fit)

    def update(self, plan: MergePlan, name: str) -> Tensor:
        return update_of(
            plan.tensors[name], self.bank.tensors(name), self.backend, self.bank.memo(name)
        )

    def known(self, plan: MergePlan) -> str | None:
        """A candidate of the very same plan."""
        return self.by_plan.get(plan.fingerprint)

    def twin(self, plan: MergePlan, survey: Survey) -> str | None:
        """The first candidate whose updates are the same, confirmed over all tensors."""
        if survey.norm == 0.0:
            return BASE
        for name, sample in self.samples.items():
            if close(sample, survey.sample) and self.confirmed(self.plans[name], plan):
                return name
        return None

    def confirmed(self, plan: MergePlan, other: MergePlan) -> bool:
        difference = square = 0.0
        for name in plan.tensors:
            mine, theirs = self.update(plan, name), self.update(other, name)
            difference += float((mine.double() - theirs.double()).square().sum())
            square += float(mine.double().square().sum())
        return difference**0.5 <= TOLERANCE * square**0.5

    def remember(self, candidate: str, plan: MergePlan, survey: Survey) -> None:
        self.plans[candidate], self.samples[candidate] = plan, survey.sample
        self.by_plan.setdefault(plan.fingerprint, candidate)


def close(x: Tensor, y: Tensor) -> bool:
    """Near enough to be worth a confirmation."""
    return float((x - y).norm()) <= 2 * TOLERANCE * float(x.norm())
