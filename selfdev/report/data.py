"""Gathers what the page shows of its candidates, from run.db, as plain JSON.

Candidates are columns: a list for each field, all of one length and in the order of the run. Texts that
candidates share are in lists of their own, and a column has their positions there. Of the test split only scores
are in it, never a question or an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ...engine.records.candidate import BASE, Candidate
from ...engine.records.compare import mcnemar
from ...engine.records.score import Score
from ...engine.records.store import Store
from .plans import PlanTexts
from .reads import escaped, scores_on
from .tables import turn_name

# A program's source and detail are cut here: one of them must not fill the page.
MOST_CHARACTERS = 20_000
# Digits of a number in the page; a score of thousands of questions needs no more.
DIGITS = 6
PLAIN = (
    *("id", "arm", "iteration", "status", "kind", "line", "tier", "seconds", "fingerprint"),
    *("weights_fingerprint", "generator", "stop_reason", "held_out"),
)


@dataclass
class Texts:
    """Texts that are kept once; `add` returns where one is."""

    found: dict[str, int] = field(default_factory=dict)

    def add(self, text: str | None) -> int | None:
        """Return the position of a text, None for None. It is cut, and what could hide in it escaped."""
        if text is None:
            return None
        return self.found.setdefault(escaped(text[:MOST_CHARACTERS]), len(self.found))


@dataclass(frozen=True)
class Outcome:
    """A candidate's answers on dev as bits, the first question's lowest: which were asked, which right."""

    asked: int
    right: int

    @staticmethod
    def of(outcomes: Mapping[int, bool], place: Mapping[int, int]) -> Outcome:
        asked = right = 0
        for index, correct in outcomes.items():
            if index not in place:
                continue
            bit = 1 << place[index]
            asked |= bit
            right |= bit if correct else 0
        return Outcome(asked, right)


def candidates_of(store: Store, experts: Sequence[str]) -> dict[str, Any]:
    """All candidates as columns, with the texts, questions and plans that they point to."""
    found = store.candidates()
    position = {c.id: i for i, c in enumerate(found)}
    questions = questions_of(store)
    outcomes = outcomes_of(store, found, {index: i for i, (index, _) in enumerate(questions)})
    sources, details, plans = Texts(), Texts(), PlanTexts(store)
    dev, test = scores_on(store, found, "dev"), scores_on(store, found, "test")
    scores = [scores_row(dev.get(c.id), test.get(c.id)) for c in found]
    columns: dict[str, list[Any]] = {key: [plain(getattr(c, key)) for c in found] for key in PLAIN}
    columns |= {key: [row[key] for row in scores] for key in scores[0]} if scores else {}
    columns |= {
        "turn": [turn_of(c) for c in found],
        "source": [sources.add(c.source) for c in found],
        "detail": [details.add(c.detail) for c in found],
        "params": [plain(dict(c.params)) or None for c in found],
        "twin_of": [position.get(c.duplicate_of or "") for c in found],
        "residual": [plain((c.linear or {}).get("residual")) for c in found],
        "coefficients": [coefficients_of(c, experts) for c in found],
        "plan": plans.of([(c, row["dev"]) for c, row in zip(found, scores, strict=True)]),
        **compared(found, outcomes),
    }
    return {
        "candidates": columns,
        "sources": list(sources.found),
        "details": list(details.found),
        "plans": plans.texts,
        "questions": [escaped(text) for _, text in questions],
    }


def questions_of(store: Store) -> list[tuple[int, str]]:
    """(index, text) of the dev questions, as the base was asked them: it is asked all of them."""
    asked = store.answers(BASE)
    return list(zip(store.outcomes(BASE), (text or "" for text, _ in asked), strict=True))


def outcomes_of(
    store: Store, candidates: Iterable[Candidate], place: Mapping[int, int]
) -> dict[str, Outcome]:
    """The answers of each candidate that was asked itself, by id."""
    if not place:
        return {}
    return {c.id: Outcome.of(store.outcomes(c.id), place) for c in candidates if c.has_answers}


def scores_row(dev: Score | None, test: Score | None) -> dict[str, Any]:
    """Both scores with their intervals; None where there is none."""
    return {
        "dev": plain(dev and dev.score),
        "low": plain(dev and dev.low),
        "high": plain(dev and dev.high),
        "n": dev and dev.n,
        "test": plain(test and test.score),
        "test_low": plain(test and test.low),
        "test_high": plain(test and test.high),
    }


def compared(candidates: Sequence[Candidate], outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Columns of answers, and of the paired comparison with the base on dev.

    A duplicate has those of the one that it repeats; its own `right` is None.
    """
    base = outcomes.get(BASE)
    every = base.asked if base else 0
    columns: dict[str, list[Any]] = {"right": [], "asked": [], "difference": [], "p": []}
    for c in candidates:
        own, found = outcomes.get(c.id), outcomes.get(c.duplicate_of or c.id)
        columns["right"].append(f"{own.right:x}" if own else None)
        columns["asked"].append(f"{own.asked:x}" if own and own.asked != every else None)
        difference, p = (None, None) if c.id == BASE else against(found, base)
        columns["difference"].append(plain(difference))
        columns["p"].append(plain(p))
    return columns


def against(mine: Outcome | None, base: Outcome | None) -> tuple[float | None, float | None]:
    """(difference, p) on the questions that both were asked; None without any."""
    both = mine.asked & base.asked if mine and base else 0
    if not (mine and base and both):
        return None, None
    won = (mine.right & ~base.right & both).bit_count()
    lost = (base.right & ~mine.right & both).bit_count()
    return (won - lost) / both.bit_count(), p_of(min(won, lost), max(won, lost))


@lru_cache(maxsize=1 << 14)
def p_of(fewer: int, more: int) -> float:
    """McNemar's p; thousands of candidates share few pairs of counts."""
    return mcnemar(fewer, more)


def turn_of(candidate: Candidate) -> str | None:
    """The iteration of an arm that sampled it; None for a known model, or in a screening."""
    number = candidate.iteration
    return None if number is None else turn_name(candidate.arm, number)


def coefficients_of(candidate: Candidate, experts: Sequence[str]) -> list[Any] | None:
    """The coefficients of the linear equivalent, in the order of the experts."""
    if not candidate.linear:
        return None
    known = candidate.linear.get("coefficients") or {}
    return [plain(known.get(name)) for name in experts]


def plain(value: Any) -> Any:
    """A value for JSON: numbers are rounded, what is not finite is None, texts are escaped."""
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, str):
        return escaped(value[:MOST_CHARACTERS])
    if isinstance(value, Mapping):
        return {escaped(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
