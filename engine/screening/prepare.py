"""What can be known of candidates without the engine: rejections, plans, surveys, whose twins they are."""

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
from .prepared import Prepared
from .twins import Known, Twins

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
        return TOGETHER if self.planner.bank.size_bytes >= LARGE_BYTES else 1

    def prepare(self, candidates: Sequence[Candidate]) -> list[Prepared]:
        """Look for twins: by text, trace, by plan, survey, by update. `seconds`: each one's share."""
        began = time.monotonic()
        traced = [self._traced(candidate) for candidate in candidates]
        fresh = {p.plan.fingerprint: p.plan for p in traced if p.plan and not p.twin}
        surveys = self.twins.surveyor.survey_all(list(fresh.values()))
        known = dict(zip(fresh, surveys, strict=True))
        found = [self._compared(prepared, known) for prepared in traced]
        seconds = (time.monotonic() - began) / max(1, len(found))
        return [replace(prepared, seconds=seconds) for prepared in found]

    def _traced(self, candidate: Candidate) -> Prepared:
        """Rejected, a twin by text or plan, or a plan."""
        if known := self.twins.same_text(candidate):
            if known.rejection:
                return Prepared(candidate, 0.0, rejection=known.rejection)
            twin = known.duplicate_of or known.id
            return Prepared(candidate, 0.0, twin=twin, like=known.id)
        plan = self.plan(candidate)
        if isinstance(plan, Rejection):
            return Prepared(candidate, 0.0, rejection=plan)
        twin = self.twins.same_plan(plan)
        return Prepared(candidate, 0.0, plan, twin=twin, like=twin)

    def _compared(self, prepared: Prepared, surveys: Mapping[str, Survey | Rejected]) -> Prepared:
        """A plan with its survey, and whose update it repeats."""
        candidate, plan = prepared.candidate, prepared.plan
        if plan is None or prepared.twin:
            return prepared
        survey = surveys[plan.fingerprint]
        if isinstance(survey, Rejected):
            return Prepared(candidate, 0.0, rejection=survey.rejection)
        if twin := self.twins.same_plan(plan):  # of one prepared together with it
            return replace(prepared, twin=twin, like=twin)
        twin = self.twins.same_update(plan, survey)
        if twin is None:
            self.twins.recent[candidate.id] = Known(candidate.id, plan, survey)
        return replace(prepared, survey=survey, twin=twin)

    def plan(self, candidate: Candidate) -> Plan | Rejection:
        assert candidate.source is not None
        try:
            return self.planner.plan(extract(candidate.source, candidate.params))
        except Rejected as error:
            return error.rejection

    def _stored_plan(self, name: str) -> Plan | None:
        candidate = self.store.candidate(name)
        if candidate is None or candidate.source is None:
            return None
        plan = self.plan(candidate)
        return plan if isinstance(plan, Plan) else None
