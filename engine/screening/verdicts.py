"""Records that are passed between preparing, asking and deciding."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Failure, Rejection
from ..plans.survey import Survey
from ..records.score import Sample, Score
from ..resident.messages import Times


@dataclass(frozen=True)
class Duplicate:
    """The candidate repeats another, `of`, and gets its score.

    `like` is an earlier candidate of the same text or plan: all that was found out about it holds
    here too. It is None where only the updates are equal. `survey` is the candidate's own, to score
    it after all where the other one fails; None where the other one is decided.
    """

    of: str
    like: str | None
    survey: Survey | None


# What is known before the engine is asked: rejected, failed, a duplicate, or to be scored.
Verdict = Rejection | Failure | Duplicate | Survey


@dataclass(frozen=True)
class Answers:
    """The engine's answers to a candidate's questions, graded.

    `weights_fingerprint` is that of the live weights, `spent` the engine's time.
    """

    weights_fingerprint: str
    score: Score
    samples: list[Sample]
    spent: Times

    @property
    def seconds(self) -> float:
        return self.spent.busy_s
