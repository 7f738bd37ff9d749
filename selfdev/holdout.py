"""Measures on programs that training never saw: when to stop, which adapter to keep, the margin.

Plain numbers only; train_process.py brings them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from statistics import NormalDist, fmean, variance

# The first evaluation that may stop the training, and the first whose adapter may be kept.
FIRST_STEP = 10
# With fewer chosen programs a holdout says too little: then only the caps end the training.
FEWEST_CHOSEN = 10
# Pairs that are compared at each evaluation.
MOST_COMPARED = 64


@dataclass
class Watch:
    """Follows the loss on the holdout from step to step.

    An evaluation is better where its loss is below that of all earlier ones, also of step 0.
    Training ends after `patience` evaluations from FIRST_STEP on that were not better.
    """

    patience: int
    losses: list[tuple[int, float]] = field(default_factory=list)
    kept_step: int | None = None
    waited: int = 0

    def add(self, step: int, loss: float) -> bool:
        """Note an evaluation; returns whether the adapter of this step is the one to keep."""
        lowest = min((known for _, known in self.losses), default=inf)
        allowed = [known for at, known in self.losses if at >= FIRST_STEP]
        self.losses.append((step, loss))
        if step < FIRST_STEP:
            return False
        self.waited = 0 if loss < lowest else self.waited + 1
        if not loss < min(allowed, default=inf):
            return False
        self.kept_step = step
        return True

    @property
    def is_over(self) -> bool:
        return self.waited >= self.patience


def steps_of(num_pairs: int, batch: int, most_epochs: float, most_steps: int) -> int:
    """Steps of a stage: as many as both caps allow, and at least one. `batch` is pairs to a step."""
    return max(1, min(most_steps, round(most_epochs * num_pairs / batch)))


def margin_of(best: Sequence[float], worst: Sequence[float]) -> list[float | None]:
    """[margin, low, high] in nats: how much more the best programs gained than the worst.

    The values are log-ratios of policy and reference. The interval is Welch's, 95 %; None where a side
    has one program only, and all is None where one has none.
    """
    if not best or not worst:
        return [None, None, None]
    margin = fmean(best) - fmean(worst)
    if min(len(best), len(worst)) < 2:
        return [margin, None, None]
    shares = [variance(side) / len(side) for side in (best, worst)]
    if sum(shares) == 0:
        return [margin, margin, margin]
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(side) - 1) for share, side in zip(shares, (best, worst), strict=True)
    )
    width = t_quantile(freedom) * sqrt(sum(shares))
    return [margin, margin - width, margin + width]


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion.

    It is 0.1 % low at 5 degrees of freedom, 3 % low at 2.
    """
    z, n = NormalDist().inv_cdf(0.975), freedom
    terms = (
        (z**3 + z) / 4 / n,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96 / n**2,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / n**3,
    )
    return z + sum(terms)
