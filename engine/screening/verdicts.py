"""What is known of a candidate before the engine is asked, and what the engine said."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Rejection
from ..plans.survey import Survey
from ..records.score import Sample, Score


@dataclass(frozen=True)
class Duplicate:
    """The candidate repeats another.

    `like`: an earlier candidate of the same text or plan, of which all that was found out holds here
    too; None where only the updates are equal. `survey`: the candidate's own, to score it after all
    where the other one fails; None where the other one is decided.
    """

    of: str
    like: str | None
    survey: Survey | None


# Rejected, the twin of another, or to be scored.
Verdict = Rejection | Duplicate | Survey


@dataclass(frozen=True)
class Answers:
    """The engine's answers to a candidate's questions, graded; `seconds` of the engine's time."""

    weights_fingerprint: str
    score: Score
    samples: list[Sample]
    seconds: float
