"""Races: which questions a candidate is asked next, and when no answer can change the decision.

The decision is who is among the top K by correct answers; of equals the earlier candidate is
better.

    full    Every question is asked.
    sure    A candidate is out when it could not enter the top K with all remaining answers right.
            It is in when it would stay there with all remaining answers wrong. This is never wrong,
            in any order. The questions that most candidates got wrong are asked first, since wrong
            answers decide soonest.
    likely  A candidate is also out when so few right answers in a uniform order are too improbable,
            over all looks together, for one of the top K: on average over the orders, wrong
            decisions stay below a share `delta` of the candidates. The first candidates are asked
            everything; from their answers a head of the harder questions is chosen, which the
            others are asked first, in that order. The rest counts as right until it is asked.

A decision is wrong if a candidate of the true top K is lost, or another is kept in its place.

This is policy only: a race holds outcomes and knows no engine. Who drives it takes candidates as
they come: `next_wave(candidate)`, then `record`, until the wave is empty.
"""

from __future__ import annotations

import copy
import functools
import heapq
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

MODES = ("full", "sure", "likely")
# The shares of the questions that are tried as the head.
HEADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# The largest probability with which one of the top K may be lost.
MOST_LOST = 0.2
# The number of random orders in which each head is tried.
NUM_REPLAYS = 8
Standing = Literal["racing", "complete", "in", "out"]


@dataclass(frozen=True)
class RaceRule:
    """What a race is for, and how.

    In a loop K is not known: `least` and `most` bound it, and `population` is None.
    """

    mode: str = "full"
    most: int = 1  # K, or the largest that it may be
    least: int | None = None  # the smallest that K may be; None: K is `most`
    population: int | None = None  # how many candidates there can be; None: not known
    delta: float = 0.01  # in `likely`, the share of all decisions that may be wrong
    loss: float | None = None  # how often one of the top K may be lost; None: as `delta` allows
    seed: int = 0  # decides the uniform order
    wave: int = 8  # questions that are asked at a time
    calibration: int = 16  # candidates that `likely` asks everything before it stops others

    def __post_init__(self) -> None:
        assert self.mode in MODES, self.mode
        assert self.most >= 1 and self.wave >= 1 and 0 < self.delta < 1

    def most_lost(self, expected: int | None) -> float:
        """Return the probability with which one of the top K may be lost, of `expected` candidates.

        Each that is lost is two wrong decisions, it and the one in its place. So in a population of
        N a loss of delta N / 2K keeps wrong decisions below delta N. Never more than MOST_LOST.
        """
        if self.loss is not None or expected is None:
            return self.delta if self.loss is None else self.loss
        return min(MOST_LOST, self.delta * expected / (2 * self.most))


@dataclass
class Record:
    """What a candidate was asked and got right, by question; `rank` is its place of arrival."""

    rank: int
    outcomes: dict[int, bool] = field(default_factory=dict)
    issued: set[int] = field(default_factory=set)
    correct: int = 0
    out: bool = False  # once out, always out

    def done(self, num_questions: int) -> bool:
        """Return whether nothing is left to ask."""
        return self.out or len(self.issued) == num_questions

    def high(self, num_questions: int) -> int:
        """Return the number of correct answers if all that remain are right."""
        return self.correct + num_questions - len(self.outcomes)


class Race:
    """One race over `num_questions` questions, numbered from 0.

    race_asking.py drives it with the answers of a live engine.
    """

    def __init__(self, rule: RaceRule, num_questions: int) -> None:
        self.rule, self.num_questions = rule, num_questions
        self.records: dict[str, Record] = {}
        self.order = list(range(num_questions))
        random.Random(rule.seed).shuffle(self.order)
        # The number of candidates that will have raced; rejected ones do not race.
        self.expected = rule.population
        # In `likely` these questions are asked first, in this order.
        self.head = self.order
        self._calibrated = rule.mode != "likely" or rule.calibration == 0
        self._asked, self._wrong = np.zeros(num_questions), np.zeros(num_questions)

    def copy(self) -> Race:
        """Return a race that goes on from here by itself; records of others are shared."""
        other = copy.copy(self)
        other.records = dict(self.records)
        other._asked, other._wrong = self._asked.copy(), self._wrong.copy()
        return other

    def enter(self, candidate: str) -> None:
        """Note that a candidate arrives; this order breaks ties. Entering twice is once."""
        self.records.setdefault(candidate, Record(len(self.records)))

    def next_wave(self, candidate: str) -> list[int]:
        """Return the questions to ask now; none once the candidate is decided or all are asked.

        May be called again before all answers are recorded, so that the engine's batch stays full.
        """
        self.enter(candidate)
        if self.standing(candidate) != "racing":
            return []
        issued = self.records[candidate].issued
        waiting = [q for q in self._preferred() if q not in issued]
        full = self.rule.mode == "full"
        wave = waiting if full else waiting[: self.rule.wave - len(issued) % self.rule.wave]
        issued.update(wave)
        return wave

    def record(self, candidate: str, outcomes: Mapping[int, bool]) -> None:
        """Record answers as right or wrong, by question. A question counts once."""
        record = self.records[candidate]
        for question, right in outcomes.items():
            assert question in record.issued and question not in record.outcomes, question
            record.outcomes[question] = bool(right)
            record.correct += bool(right)
            self._asked[question] += 1
            self._wrong[question] += not right
        self._calibrate()

    def standing(self, candidate: str) -> Standing:
        """Return where a candidate stands, by all that is recorded now."""
        record = self.records[candidate]
        if len(record.outcomes) == self.num_questions:
            return "complete"
        if self.rule.mode == "full" or not self._calibrated:
            return "racing"
        record.out = record.out or self._is_out(record)
        return "out" if record.out else "in" if self._is_in(record) else "racing"

    # ---- when it is decided

    def _preferred(self) -> list[int]:
        """Return all questions in the order in which they are preferred.

        In `sure` that is hardest first, by what was recorded; in `likely` the head, then the rest.
        """
        if self.rule.mode != "sure":
            head = set(self.head)
            return [*self.head, *(q for q in self.order if q not in head)]
        share = (self._wrong + 1) / (self._asked + 2)
        return [int(q) for q in np.argsort(-share, kind="stable")]

    def _calibrate(self) -> None:
        """Choose the head with which the first candidates would have been decided soonest.

        Only candidates that were asked everything count, in other orders than the race's: a sample
        is fair to a candidate if neither it nor the order had a part in choosing what is sampled.
        """
        first = [r for r in self.records.values() if r.rank < self.rule.calibration]
        complete = [r for r in first if len(r.outcomes) == self.num_questions]
        if self._calibrated or len(complete) < self.rule.calibration:
            return
        rows = np.array([[r.outcomes[q] for q in range(self.num_questions)] for r in complete])
        hardest = [int(q) for q in np.argsort(rows.mean(axis=0), kind="stable")]
        sizes = [round(share * self.num_questions) for share in HEADS]
        loss = self.rule.most_lost(self.expected)
        size = min(sizes, key=lambda size: replay_cost(self.rule, loss, rows, hardest[:size]))
        self.head = [q for q in self.order if q in set(hardest[:size])]
        self._calibrated = True

    def _needed(self, record: Record) -> int:
        """Return the number of correct answers below which K others are better.

        It is the K-th best of what the others have.
        """
        others = (
            r.correct + (r.rank < record.rank) for r in self.records.values() if r is not record
        )
        best = heapq.nlargest(self.rule.most, others)
        return best[-1] if len(best) == self.rule.most else 0

    def _is_out(self, record: Record) -> bool:
        """Return whether a candidate is out: surely, or in `likely` by improbability."""
        needed = self._needed(record)
        if record.high(self.num_questions) < needed:
            # Also where more is needed than there are questions.
            return True
        return self.rule.mode == "likely" and self._is_unlikely(record, needed)

    def _is_unlikely(self, record: Record, needed: int) -> bool:
        """Return whether so few right answers are too improbable for one of the top K.

        Only the complete waves of the head count: what answers first is no fair sample.
        """
        asked = itertools.takewhile(record.outcomes.__contains__, self.head)
        marks = [record.outcomes[q] for q in asked]
        looks = len(marks) // self.rule.wave + (len(marks) == len(self.head))
        # A question outside the head counts as right until it is asked.
        right = record.correct - sum(record.outcomes.get(q, False) for q in self.head)
        unasked = self.num_questions - len(self.head) - self._outside(record)
        needed -= right + unasked
        if not (looks and 0 < needed <= len(self.head)):
            return False
        limits = boundaries(len(self.head), self.rule.wave, self.rule.most_lost(self.expected))[
            needed
        ]
        look = min(looks, len(limits))
        return sum(marks[: look * self.rule.wave]) <= limits[look - 1]

    def _outside(self, record: Record) -> int:
        """Return the number of questions that were answered and are not in the head."""
        return len(record.outcomes) - sum(q in record.outcomes for q in self.head)

    def _is_in(self, record: Record) -> bool:
        """Return whether fewer than K others can still be better.

        Candidates that have yet to come count as all right.
        """
        if self.rule.population is None:
            return False
        rivals = self.rule.population - len(self.records)
        for other in self.records.values():
            if other is not record:
                best = other.high(self.num_questions) + (other.rank < record.rank)
                rivals += best > record.correct
        return rivals < (self.rule.least or self.rule.most)


def replay_cost(rule: RaceRule, loss: float, rows: np.ndarray, head: list[int]) -> int:
    """How many questions these candidates would have been asked with a head, at the best one's bar.

    `rows`: right answers, candidate by question. `loss`: how often one of the top K may be lost.
    """
    needed = int(rows.sum(axis=1).max()) - (rows.shape[1] - len(head))
    if needed <= 0:
        return rows.size * NUM_REPLAYS
    looks, draw = -(-len(head) // rule.wave), random.Random(f"{rule.seed} replays")
    ends = np.minimum(np.arange(1, looks + 1) * rule.wave, len(head))
    limits, cost = boundaries(len(head), rule.wave, loss)[needed], 0
    for _ in range(NUM_REPLAYS):
        order = draw.sample(head, len(head))
        right = np.cumsum(rows[:, order], axis=1)[:, ends - 1]
        out = (right <= limits) | (right + len(head) - ends < needed)
        cost += int(np.where(out.any(axis=1), ends[out.argmax(axis=1)], rows.shape[1]).sum())
    return cost


@functools.lru_cache(maxsize=8)
def boundaries(num_questions: int, wave: int, loss: float) -> np.ndarray:
    """Return limits[needed, look]: a candidate with at most that many right answers is out.

    A look comes after each wave; -1 means never. The limits are exact: of a candidate that has just
    `needed` right answers, asked in a uniform order, the share that any look puts out is at most
    `loss`; one that has more is put out less often. What the looks may spend together grows with
    the questions asked, faster at first: early stops save most.

    Limits never fall as more is needed. The bar of a race only rises, and ends no higher than what
    the top K have, so every look puts out less than the looks at that last bar would.
    """
    needed = np.arange(num_questions + 1)
    alive = np.diag(np.ones(num_questions + 1))  # [needed, right ones still to come]
    spent, asked, columns = np.zeros(len(needed)), 0, []
    while asked < num_questions:
        step = min(wave, num_questions - asked)
        alive = advance(alive, num_questions - asked, step)
        asked += step
        allowed = loss * (1 - (1 - asked / num_questions) ** 2)
        tail = spent[:, None] + np.cumsum(alive[:, ::-1], axis=1)[:, ::-1]
        # Candidates with this number of right answers still to come, or more, are put out.
        first = (tail > allowed).sum(axis=1)
        spent = np.append(tail, spent[:, None], axis=1)[needed, first]
        alive[needed[None, :] >= first[:, None]] = 0.0
        columns.append(np.maximum(needed - first, -1))
    limits = np.stack(columns, axis=1)
    return np.minimum.accumulate(limits[::-1], axis=0)[::-1]


def advance(alive: np.ndarray, left: int, step: int) -> np.ndarray:
    """Return `alive` after `step` more of `left` questions are answered.

    `alive` is [needed, right ones still to come]; the right ones among the step are hypergeometric.
    """
    after, to_come = np.zeros_like(alive), np.arange(alive.shape[1])
    for right in range(min(step, len(to_come) - 1) + 1):
        ways = log_choose(to_come, right) + log_choose(left - to_come, step - right)
        share = alive * np.exp(ways - log_choose(np.array(left), step))
        after[:, : len(to_come) - right] += share[:, right:]
    return after


@functools.cache
def log_factorials(largest: int) -> np.ndarray:
    """Return log(i!) for i from 0 to `largest`."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])


def log_choose(n: np.ndarray, k: int) -> np.ndarray:
    """Return the log of n over k; -inf where k is more than n."""
    safe = np.maximum(n, k)
    table = log_factorials(1 << int(safe.max()).bit_length())
    return np.where(n >= k, table[safe] - table[k] - table[safe - k], -np.inf)
