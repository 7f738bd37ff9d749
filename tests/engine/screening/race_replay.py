"""Replays races over recorded outcomes: what a race would have saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from selfdev_engine.engine.screening.race import Race, RaceRule


@dataclass(frozen=True)
class Simulation:
    """A race over recorded outcomes, against asking everything."""

    mode: str
    candidates: int
    questions: int  # that a full race asks
    asked: int
    lost: tuple[int, ...]  # of the true top K, those that the race did not keep
    gained: tuple[int, ...]  # kept in their place

    @property
    def ratio(self) -> float:
        """How many times fewer questions."""
        return self.questions / self.asked

    @property
    def error(self) -> float:
        """Share of candidates that were decided wrongly: lost from the top K, or kept in it."""
        return (len(self.lost) + len(self.gained)) / self.candidates


def winners(race: Race) -> list[str]:
    """The top K so far, best first, of all that are not out."""
    done = {c: r for c, r in race.records.items() if not r.out}
    return sorted(done, key=lambda c: (-done[c].correct, done[c].rank))[: race.rule.most]


def simulate(outcomes: np.ndarray, rule: RaceRule) -> Simulation:
    """Replay a race on a matrix of right answers, candidate by question, in the order of arrival."""
    num_candidates, num_questions = outcomes.shape
    race = Race(rule, num_questions)
    for i in range(num_candidates):
        while wave := race.next_wave(str(i)):
            race.record(str(i), {q: bool(outcomes[i, q]) for q in wave})
    asked = sum(len(r.outcomes) for r in race.records.values())
    ranked = np.argsort(-outcomes.sum(axis=1), kind="stable")
    wanted, kept = {int(i) for i in ranked[: rule.most]}, {int(c) for c in winners(race)}
    return Simulation(
        rule.mode,
        num_candidates,
        outcomes.size,
        asked,
        tuple(sorted(wanted - kept)),
        tuple(sorted(kept - wanted)),
    )
