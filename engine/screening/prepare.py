"""Finds out what can be known of candidates without the engine: rejections, twins, surveys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import Rejected, Rejection
from ..plans.plan import Plan
from ..plans.planner import Planner
from ..plans.survey import Survey, Surveyor
from ..program import extract
from ..records.candidate import Candidate
from ..records.store import Store
from .twins import Twins
from .verdicts import Duplicate, Verdict

TOGETHER = 4  # candidates whose sweeps share their passes
LARGE_BYTES = 1 << 30  # of a bank: from here on a pass costs more than to wait for others


@dataclass
class Preparer:
    """Prepares candidates of one store for one bank."""

    planner: Planner
    store: Store

    def __post_init__(self) -> None:
        surveyor = Surveyor(self.planner.bank, self.planner.backend)
        self.twins = Twins(self.store, surveyor, self._stored_plan)

    @property
    def num_together(self) -> int:
        """How many candidates are worth preparing together."""
        return TOGETHER if self.planner.bank.selection.size_bytes >= LARGE_BYTES else 1

    def prepare(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, Verdict]]:
        """Each candidate, with its share of the seconds that this took, and what is known of it.

        Twins are looked for by text, then by plan, then by update.
        """
        began = time.monotonic()
        planned = [self._planned(candidate) for candidate in candidates]
        fresh = {plan.fingerprint: plan for plan in planned if isinstance(plan, Plan)}
        surveys = self.twins.surveyor.survey_all(list(fresh.values()))
        known = dict(zip(fresh, surveys, strict=True))
        verdicts = [
            self._compared(candidate, found, known) if isinstance(found, Plan) else found
            for candidate, found in zip(candidates, planned, strict=True)
        ]
        seconds = (time.monotonic() - began) / max(1, len(candidates))
        spent = [replace(candidate, seconds=seconds) for candidate in candidates]
        return list(zip(spent, verdicts, strict=True))

    def _planned(self, candidate: Candidate) -> Rejection | Duplicate | Plan:
        """Rejected, a twin by text or plan, or a plan that is new."""
        if known := self.twins.same_text(candidate):
            if known.rejection:
                return known.rejection
            return Duplicate(known.duplicate_of or known.id, known.id, None)
        plan = self.plan(candidate)
        if isinstance(plan, Rejection):
            return plan
        return self.twins.same_plan(plan) or plan

    def _compared(
        self, candidate: Candidate, plan: Plan, surveys: Mapping[str, Survey | Rejection]
    ) -> Verdict:
        """The plan's survey, or whose update it repeats."""
        survey = surveys[plan.fingerprint]
        if isinstance(survey, Rejection):
            return survey
        # The same plan again: of a candidate that was prepared together with this one.
        if twin := self.twins.same_plan(plan) or self.twins.same_update(survey):
            return twin
        self.twins.recent[candidate.id] = survey
        return survey

    def plan(self, candidate: Candidate) -> Plan | Rejection:
        """The plan of a stored program."""
        assert candidate.source is not None
        try:
            program = extract(candidate.source, candidate.params)
        except Rejected as error:
            return error.rejection
        return self.planner.plan(program)

    def _stored_plan(self, name: str) -> Plan | None:
        candidate = self.store.candidate(name)
        if candidate is None or candidate.source is None:
            return None
        plan = self.plan(candidate)
        return plan if isinstance(plan, Plan) else None
