"""Finds out what can be known of candidates without the engine: rejections, duplicates, surveys."""

from __future__ import annotations

import sqlite3
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from ...kernels.compiler.clock import OutOfTime
from ..errors import EngineError, Failure, Rejected, Rejection, UsageError, in_one_line
from ..plans.plan import Plan
from ..plans.planner import Planned, Planner
from ..plans.survey import Survey, Surveyor
from ..plans.updates import Updates
from ..program import Program, extract
from ..records.candidate import Candidate
from ..records.store import Store
from .outcomes import MAX_DETAIL
from .twins import Twins
from .verdicts import Duplicate, Verdict

# The number of candidates that are prepared together: their sweeps share passes over the weights.
TOGETHER = 4
# From this size of the bank on, a pass costs more than waiting for other candidates.
LARGE_BYTES = 1 << 30
T = TypeVar("T")


@dataclass
class Preparer:
    """Prepares candidates of one store for one bank; the Screener asks it."""

    planner: Planner
    store: Store
    updates: Updates
    # Plans with updates in files, of candidates that are not yet settled, by id.
    held: dict[str, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        surveyor = Surveyor(self.planner.bank, self.planner.backend)
        self.twins = Twins(self.store, surveyor, partial(scored_plan, self.store))

    @property
    def num_together(self) -> int:
        """The number of candidates that are worth preparing together."""
        large = self.planner.bank.selection.size_bytes >= LARGE_BYTES
        return max(TOGETHER if large else 1, self.planner.tracer.settings.slots)

    def check_models(self) -> None:
        """Raise UsageError where a file of base or experts was changed: then no verdict may be kept."""
        self.planner.bank.selection.check_unchanged()

    def prepare(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, Verdict]]:
        """Return each candidate with what is known of it, and with its share of the seconds spent.

        Originals are looked for by text, then by plan, then by update. What torch computed for a candidate is
        kept until `settled`.
        """
        began = time.monotonic()
        planned = self._planned(candidates)
        fresh = {plan.fingerprint: plan for plan in planned if isinstance(plan, Plan)}
        known = dict(zip(fresh, self._surveyed(list(fresh.values())), strict=True))
        verdicts = [
            guarded(partial(self._compared, candidate, found, known))
            if isinstance(found, Plan)
            else found
            for candidate, found in zip(candidates, planned, strict=True)
        ]
        self._hold(candidates, verdicts)
        seconds = (time.monotonic() - began) / max(1, len(candidates))
        spent = [replace(candidate, seconds=seconds) for candidate in candidates]
        return list(zip(spent, verdicts, strict=True))

    def _hold(self, candidates: Sequence[Candidate], verdicts: Sequence[Verdict]) -> None:
        """Keep the files of the updates of those candidates that may be asked."""
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            survey = verdict.survey if isinstance(verdict, Duplicate) else verdict
            if isinstance(survey, Survey):
                self.held[candidate.id] = survey.plan
        self._drop_files()

    def settled(self, name: str) -> None:
        """Forget what was prepared for a candidate that is decided."""
        self.twins.recent.pop(name, None)
        if self.held.pop(name, None):
            self._drop_files()

    def forget(self) -> None:
        """Forget all that was prepared: candidates that are not decided are prepared again."""
        self.twins.recent.clear()
        self.held.clear()
        self._drop_files()

    def _drop_files(self) -> None:
        self.updates.keep_only({plan.fingerprint for plan in self.held.values()})

    def _surveyed(self, plans: Sequence[Plan]) -> list[Survey | Rejection | Failure]:
        """Survey plans together; where a bug of ours ends that, each alone, so that it costs only one."""
        surveyor = self.twins.surveyor
        found = guarded(partial(surveyor.survey_all, plans))
        if isinstance(found, Failure):
            return [guarded(partial(surveyor.survey, plan)) for plan in plans]
        return list(found)

    def _planned(
        self, candidates: Sequence[Candidate]
    ) -> list[Rejection | Failure | Duplicate | Plan]:
        """Return for each a rejection, a duplicate by text or plan, or a plan that is new."""
        begun = {c.id: guarded(partial(self._begun, c)) for c in candidates}
        programs = {name: one for name, one in begun.items() if isinstance(one, Program)}
        planned = dict(zip(programs, self._traced(list(programs.values())), strict=True))
        return [
            guarded(partial(self._noted, c, planned[c.id])) if isinstance(one, Program) else one
            for c, one in zip(candidates, begun.values(), strict=True)
        ]

    def _begun(self, candidate: Candidate) -> Rejection | Duplicate | Program:
        """Return the program, or what is known without a trace."""
        known = self.twins.same_text(candidate)
        if known is None:
            return program_of(candidate)
        return known.rejection or Duplicate(known.duplicate_of or known.id, known.id, None)

    def _traced(self, programs: Sequence[Program]) -> list[Planned | Failure]:
        """Plan programs together; where a bug of ours ends that, each alone, so that it costs only one."""
        found = guarded(partial(self.planner.plan_together, programs))
        if isinstance(found, Failure):
            return [guarded(partial(self._traced_alone, program)) for program in programs]
        return list(found)

    def _traced_alone(self, program: Program) -> Planned:
        (planned,) = self.planner.plan_together([program])
        return planned

    def _noted(
        self, candidate: Candidate, planned: Planned | Failure
    ) -> Rejection | Failure | Duplicate | Plan:
        """Keep what went wrong in planning, and compute what torch must compute of a plan that is new."""
        if isinstance(planned, Failure):
            return planned
        for fault in planned.faults:
            self.store.add_event("bug", candidate=candidate.id, detail=fault[-MAX_DETAIL:])
        plan = planned.plan
        if isinstance(plan, Rejection):
            return plan
        return self.twins.same_plan(plan, candidate.arm) or self.updates.computed(plan)

    def _compared(
        self,
        candidate: Candidate,
        plan: Plan,
        surveys: Mapping[str, Survey | Rejection | Failure],
    ) -> Verdict:
        """Return the plan's survey or rejection, or the duplicate that it is."""
        survey = surveys[plan.fingerprint]
        if not isinstance(survey, Survey):
            return survey
        # A candidate that was prepared together with this one may have the same plan.
        if known := known_twin(self.twins, survey, candidate.arm):
            return known
        self.twins.recent[candidate.id] = survey
        return survey

    def stored_plan(self, name: str) -> Plan | None:
        """Return the plan of a stored candidate, by id, with its updates; None where it has none.

        It is made again where it is not stored. Then it has none, too, where the program gives another plan.
        """
        candidate = self.store.candidate(name)
        if (
            (found := scored_plan(self.store, name))
            or candidate is None
            or candidate.source is None
        ):
            return found
        return made_again(candidate, self.planner, self.updates)


def made_again(candidate: Candidate, planner: Planner, updates: Updates) -> Plan | None:
    """Return the plan that a candidate's program gives now; None where it is another than it was."""
    program = program_of(candidate)
    plan = program if isinstance(program, Rejection) else planner.plan(program)
    if isinstance(plan, Plan):
        plan = updates.computed(plan)
    if not isinstance(plan, Plan) or plan.fingerprint != candidate.fingerprint:
        return None
    return plan


def scored_plan(store: Store, name: str) -> Plan | None:
    """Return the plan of a scored candidate as it was scored; None where torch computed a part.

    Its program is not run for that: it could give another plan than the one that was scored.
    UsageError for a plan that is damaged.
    """
    candidate = store.candidate(name)
    try:
        data = candidate and candidate.fingerprint and store.plan(candidate.fingerprint)
        return Plan.from_bytes(data) if data else None
    except (ValueError, zlib.error) as error:
        raise UsageError(
            f"{store.path}: the plan of {name} is damaged ({in_one_line(str(error))[:200]}); "
            "take the file from a copy, or screen again in another folder"
        ) from None


def program_of(candidate: Candidate) -> Program | Rejection:
    """Return the program in a candidate's text, or why there is none."""
    assert candidate.source is not None
    try:
        return extract(candidate.source, candidate.params)
    except Rejected as error:
        return error.rejection


def known_twin(twins: Twins, survey: Survey, arm: str) -> Duplicate | None:
    """Return the candidate that has the same plan or update as the survey's, or None.

    Where the comparisons take too long it has none, and is scored itself: others' plans cost that time.
    """
    try:
        return twins.same_plan(survey.plan, arm) or twins.same_update(survey, arm)
    except OutOfTime:
        return None


def guarded(work: Callable[[], T]) -> T | Failure:
    """Do the work; an exception that nobody expected is a failure of ours, with its traceback.

    What is expected passes: EngineError, and a disk or a database that refuses to work.
    """
    try:
        return work()
    except (EngineError, OSError, sqlite3.Error):
        raise
    except Exception:
        return Failure(traceback.format_exc())
