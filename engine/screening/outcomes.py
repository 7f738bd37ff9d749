"""Settles candidates in the store: every outcome is written here, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import Failure, Rejection
from ..plans.plan import Plan
from ..plans.survey import Survey
from ..records.candidate import BASE, Candidate, Status
from ..records.score import Sample, Score
from ..records.store import PRODUCT_VERSION, Store
from .verdicts import Answers, Duplicate

MAX_DETAIL, MAX_LINE = 4_000, 400  # characters that are kept of a traceback, and of its last line
# The largest plan that is kept; nothing is compared with a larger one.
MAX_PLAN_BYTES = 16 << 20


class Outcomes:
    """Writes the outcomes of one run's candidates.

    `experts` names the coefficients of a linear equivalent. A score on fewer than `num_questions`
    questions is one that a race stopped.
    """

    def __init__(self, store: Store, task: str, experts: Sequence[str], num_questions: int) -> None:
        self.store, self.task = store, task
        self.experts, self.num_questions = tuple(experts), num_questions

    def base(self, answers: Answers, made_with: Mapping[str, str]) -> None:
        """Store the base's score, as candidate `base`. The caller has opened a transaction."""
        self.add_score(BASE, "dev", answers.score, answers.samples, made_with)
        self.store.decide(
            BASE,
            status=Status.SCORED,
            weights_fingerprint=answers.weights_fingerprint,
            seconds=answers.seconds,
            linear={"coefficients": dict.fromkeys(self.experts, 0.0), "residual": 0.0},
        )

    def scored(
        self, candidate: Candidate, survey: Survey, answers: Answers, made_with: Mapping[str, str]
    ) -> None:
        """Store a candidate's own score.

        Its status is `stopped` where a race asked fewer questions than there are.
        """
        is_whole = len(answers.samples) == self.num_questions
        with self.store.transaction():
            self.add_score(candidate.id, "dev", answers.score, answers.samples, made_with)
            self._add_trace(candidate, survey, scored=True)
            self._add_plan(survey.plan)
            self.store.decide(
                candidate.id,
                status=Status.SCORED if is_whole else Status.STOPPED,
                weights_fingerprint=answers.weights_fingerprint,
                seconds=(candidate.seconds or 0.0) + answers.seconds,
                linear=self._linear(survey),
            )

    def duplicate(self, candidate: Candidate, verdict: Duplicate) -> None:
        """Give a candidate the score of the one that it repeats."""
        same = self.store.candidate(verdict.of)
        outcome = {
            "status": Status.DUPLICATE,
            "duplicate_of": verdict.of,
            "weights_fingerprint": same.weights_fingerprint if same else None,
            "seconds": candidate.seconds,
        }
        with self.store.transaction():
            if verdict.like:
                self.store.decide_like(verdict.like, candidate.id, **outcome)
                return
            assert verdict.survey is not None
            self._add_trace(candidate, verdict.survey, scored=False)
            self.store.decide(candidate.id, linear=self._linear(verdict.survey), **outcome)

    def rejected(self, candidate: Candidate, why: Rejection) -> None:
        """Store why a candidate was rejected: the program's fault."""
        words = {"kind": why.kind, "detail": why.detail, "line": why.line}
        with self.store.transaction():
            self.store.decide(
                candidate.id, status=Status.REJECTED, seconds=candidate.seconds, **words
            )

    def failed(self, candidate: Candidate, why: Failure) -> None:
        """Settle a candidate under which we failed; the next version of this product tries again.

        The event has the whole traceback, the candidate its last line.
        """
        with self.store.transaction():
            text = why.text[-MAX_DETAIL:]
            self.store.add_event("bug", candidate=candidate.id, detail=text)
            self.store.decide(
                candidate.id,
                status=Status.FAILED,
                detail=why.last_line[:MAX_LINE],
                failed_by=PRODUCT_VERSION,
            )

    def add_score(
        self,
        name: str,
        split: str,
        score: Score,
        samples: Sequence[Sample],
        made_with: Mapping[str, str],
    ) -> None:
        """Store a score and its answers. The caller has opened a transaction."""
        self.store.add_score(name, self.task, split, score, samples, made_with)

    def is_answered(self, name: str) -> bool:
        """Return whether a candidate was asked itself, so that others may be its duplicates."""
        found = self.store.candidate(name)
        return found is not None and found.has_answers

    def _add_trace(self, candidate: Candidate, survey: Survey, *, scored: bool) -> None:
        """Store how a program was understood; `scored` lets others be its duplicates."""
        plan = survey.plan
        trace = (plan.tier, plan.reason, plan.fingerprint, plan.num_asks)
        self.store.add_trace(candidate.id, *trace, survey.norm, survey.sketch, scored)

    def _add_plan(self, plan: Plan) -> None:
        """Store what was scored, where kernels compute all of it."""
        if plan.tier == "fused" and len(data := plan.to_bytes()) <= MAX_PLAN_BYTES:
            self.store.add_plan(plan.fingerprint, data)

    def _linear(self, survey: Survey) -> dict[str, object]:
        return survey.linear.to_json(self.experts)
