"""What a screening passes on: a candidate before and after the engine, and the engine's use of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import Rejection
from ..plans.plan import Plan
from ..plans.survey import Survey
from ..records.candidate import Candidate
from ..records.score import Sample, Score
from ..resident.messages import Times


@dataclass(frozen=True)
class Prepared:
    """A candidate as far as it can be known without the engine: rejected, a twin's, or to score.

    `like`: an earlier one of the same text or plan, of which all that was found out holds here too.
    """

    candidate: Candidate
    seconds: float
    plan: Plan | None = None
    survey: Survey | None = None
    twin: str | None = None
    like: str | None = None
    rejection: Rejection | None = None


@dataclass
class Usage:
    """What the engine's time went to while candidates were screened; shares of the wall clock."""

    engine: str = ""
    threads: int | None = None  # that it answers with; known once it was up
    wall_s: float = 0.0
    busy_s: float = 0.0
    swap_s: float = 0.0

    def count(self, spent: Times) -> None:
        self.busy_s += spent.busy_s
        self.swap_s += spent.swap_s

    def to_json(self) -> dict[str, Any]:
        busy = self.busy_s / self.wall_s if self.wall_s else None
        swap = self.swap_s / self.busy_s if self.busy_s else None
        shares = {"busy_share": busy, "swap_share": swap}
        return {"name": self.engine, "threads": self.threads, **shares}


@dataclass(frozen=True)
class Answers:
    """What the engine said of a candidate."""

    weights_fingerprint: str
    score: Score
    samples: list[Sample]
    seconds: float
