"""Compares two candidates, paired by question, with McNemar's exact test.

Intervals of two scores of a hundred questions overlap long before their difference is noise, since
most questions are right or wrong for both. Only those that tell the two apart count.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import comb
from typing import TypeVar

from ..errors import UsageError
from .candidate import Candidate, Status
from .store import Store

Q = TypeVar("Q", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """How two candidates did on the questions that both were asked.

    The counts say who got a question right; `n` is all of them, and `p` is two-sided.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @property
    def difference(self) -> float:
        """The score of the first less that of the second, on these questions."""
        return (self.only_first - self.only_second) / self.n

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "difference": self.difference}


def compare(first: Mapping[Q, bool], second: Mapping[Q, bool]) -> Comparison:
    """Compare outcomes by question. Questions that only one was asked do not count.

    UsageError where the two share no question.
    """
    shared = first.keys() & second.keys()
    if not shared:
        raise UsageError("the two have no question in common: nothing can be compared")
    pairs = [(first[q], second[q]) for q in shared]
    counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True))]
    both, one, other = counts
    return Comparison(len(pairs), both, one, other, len(pairs) - sum(counts), mcnemar(one, other))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p: how likely is so unequal a split if both are equally good?"""
    total, fewer = only_first + only_second, min(only_first, only_second)
    ways = sum(comb(total, i) for i in range(fewer + 1))
    return float(min(Fraction(1), Fraction(2 * ways, 2**total)))


def compare_candidates(store: Store, first: str, second: str, split: str = "dev") -> Comparison:
    """Compare two candidates of a run, by id.

    UsageError names the one that is absent or was not scored.
    """
    return compare(*(answers_of(store, name, split) for name in (first, second)))


def made_otherwise(store: Store, first: str, second: str, split: str) -> list[dict[str, str]]:
    """Return what the two scores were made with where that differs: engine, decoding, task or grader."""

    def made(name: str) -> dict[str, str]:
        found = store.candidate(name)
        # A duplicate has the answers of its original.
        return store.made_with((found and found.duplicate_of) or name, split) or {}

    one, other = made(first), made(second)
    return [
        {"what": key, "first": one.get(key, "not known"), "second": other.get(key, "not known")}
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def answered_by(store: Store, candidate: Candidate) -> str | None:
    """Return whose score is that of a candidate: a copy has that of the one with its text. None without one."""
    if candidate.status is Status.COPY and candidate.duplicate_of:
        original = store.candidate(candidate.duplicate_of)
        return original.id if original and original.has_score else None
    return candidate.id if candidate.has_score else None


def answers_of(store: Store, name: str, split: str) -> dict[tuple[str, int], bool]:
    candidate = store.candidate(name)
    if candidate is None:
        raise UsageError(f"{store.path}: has no candidate {name!r}")
    if not (found := store.answers(answered_by(store, candidate) or name, split)):
        raise UsageError(f"{store.path}: candidate {name!r} has no {split} answers")
    return found
