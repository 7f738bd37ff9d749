"""Finds the earlier candidate that a new one repeats.

Texts or plans are equal, or float32 updates differ by at most 1e-5 of their norm. The store tells
who has the same text or plan, or a like norm and sketch (plans/survey.py), in O(log n). Likeness
only says whom to compare: a duplicate is confirmed over all selected tensors before a score is
copied. A program that changes nothing is a duplicate of the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..plans.plan import Plan
from ..plans.survey import Survey, Surveyor
from ..records.candidate import BASE, Candidate
from ..records.store import Store
from .verdicts import Duplicate

TOLERANCE = 1e-5
# A random direction may show a difference as up to this many times its length.
SPREAD = 6.0
# A candidate is compared with so many: each comparison is a pass over the weights.
MOST_COMPARED = 8


@dataclass
class Twins:
    """Looks for the candidate that a new one repeats. Preparer asks it.

    `plan_of` has the plan of a scored candidate, by id, as it was scored.
    """

    store: Store
    surveyor: Surveyor
    plan_of: Callable[[str], Plan | None]
    # Surveys of candidates that are prepared and not yet decided: the store lacks their plans.
    recent: dict[str, Survey] = field(default_factory=dict)

    def same_text(self, candidate: Candidate) -> Candidate | None:
        """Return the first decided candidate of the very same text and parameters, or None.

        One that was stopped for its time or memory does not count: those depend on the machine's
        other work.
        """
        known = self.store.decided_as(candidate)
        return None if known is None or known.kind in ("timeout", "memory") else known

    def same_plan(self, plan: Plan, arm: str) -> Duplicate | None:
        """Return the first candidate of the very same plan, or None; the arm's own before others."""
        if found := self.store.scored_as(plan.fingerprint, arm):
            return Duplicate(found, found, None)
        for name, survey in self.recent.items():
            if survey.plan.fingerprint == plan.fingerprint:
                return Duplicate(name, name, survey)
        return None

    def same_update(self, survey: Survey, arm: str) -> Duplicate | None:
        """Return the first candidate with the same updates, confirmed over all tensors, or None.

        Those of the arm come before others.
        """
        if survey.norm == 0.0:
            return Duplicate(BASE, None, survey)
        for name, theirs in self.alike(survey, arm)[:MOST_COMPARED]:
            known = self.recent.get(name)
            other = known.plan if known else self.plan_of(name)
            if theirs and other is not None and self.confirmed(other, survey.plan, survey.norm):
                return Duplicate(name, None, survey)
        return None

    def alike(self, survey: Survey, arm: str) -> list[tuple[str, Sequence[float]]]:
        """Return (id, sketch) of the candidates of like norm and sketch, the earliest first."""
        room = 2 * TOLERANCE * survey.norm
        low, high = survey.norm - room, survey.norm + room
        found = self.store.scored_near(low, high, arm)
        found += [
            (name, list(known.sketch))
            for name, known in self.recent.items()
            if low <= known.norm <= high
        ]
        return [(name, sketch) for name, sketch in found if near(sketch, survey)]

    def confirmed(self, plan: Plan, other: Plan, norm: float) -> bool:
        """Return whether two plans' updates differ by at most 1e-5 of their norm."""
        if plan.tensors.keys() != other.tensors.keys():
            return False
        room, square = (TOLERANCE * norm) ** 2, 0.0
        for name in plan.tensors:
            square += self.surveyor.distance(plan, other, name)
            if not square <= room:
                return False
        return True


def near(sketch: Sequence[float], survey: Survey) -> bool:
    """Return whether a sketch is near enough to the survey's to be worth a confirmation."""
    room = SPREAD * TOLERANCE * survey.norm
    return len(sketch) == len(survey.sketch) and all(
        abs(a - b) <= room for a, b in zip(sketch, survey.sketch, strict=True)
    )
