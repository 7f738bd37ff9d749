"""Compares the arms of a run at equal budget.

All arms draw as many samples. An arm pays for each distinct update that it has scored, also where the
score was known from another arm. So the best programs are compared at the largest number of scored
updates that all arms reached. The stated comparisons are of mean scores in the last iteration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..engine.records.candidate import MAIN
from ..engine.records.store import Store
from .config import RunConfig
from .holdout import margin_of
from .learning import scored_programs
from .verdict import ALPHA, holm, p_text

# The controls that `main` is compared with, where a run has them.
COMPARED = ("no_learning", "sft", "permuted", "linear")
PERMUTATIONS = 9999


@dataclass(frozen=True)
class Reached:
    """What an arm got for its samples.

    `scores` are those of its distinct updates in the order drawn, `places` how many samples each took.
    """

    samples: int
    places: Sequence[int]
    scores: Sequence[float]

    @staticmethod
    def of(store: Store, arm: str) -> Reached:
        seen, places, scores, samples = set[str](), list[int](), list[float](), 0
        for c in (c for i in store.iterations(arm) for c in store.candidates(i, arm)):
            samples += 1
            update = c.duplicate_of or c.id
            if c.is_valid and update not in seen and (score := store.score(c.id)):
                seen.add(update)
                places.append(samples)
                scores.append(score.score)
        return Reached(samples, places, scores)

    def at(self, count: int) -> dict[str, Any]:
        """What it had after `count` scored updates, and all that it drew and scored."""
        first = self.scores[:count]
        return {
            "samples": self.places[count - 1] if count else None,
            "best": max(first, default=None),
            "mean": fmean(first) if first else None,
            "all_samples": self.samples,
            "all_scored": len(self.scores),
        }


def budget(store: Store, config: RunConfig) -> dict[str, Any]:
    """All arms at the largest number of scored updates that each of them reached."""
    found = {arm.name: Reached.of(store, arm.name) for arm in config.all_arms}
    count = min(len(one.scores) for one in found.values())
    return {"scored": count, "arms": {name: one.at(count) for name, one in found.items()}}


def arm_comparisons(store: Store, config: RunConfig) -> list[dict[str, Any]]:
    """Compare mean dev scores of the distinct programs that ran in the last iteration.

    The interval is Welch's, p a permutation test's. Both are about these programs of these generators:
    another training of the same arm would differ, too, which only several runs show.
    """
    mine = last_scores(store, config, MAIN)
    theirs = {n: s for n in COMPARED if n in config.arms and (s := last_scores(store, config, n))}
    if not mine:
        return []
    adjusted = holm([permutation_p(mine, scores) for scores in theirs.values()])
    return [
        {
            "a": MAIN,
            "b": name,
            "split": "dev",
            "n": [len(mine), len(scores)],
            **dict(zip(("difference", "low", "high"), margin_of(mine, scores), strict=True)),
            "p": permutation_p(mine, scores),
            "p_holm": p,
        }
        for (name, scores), p in zip(theirs.items(), adjusted, strict=True)
    ]


def last_scores(store: Store, config: RunConfig, arm: str) -> list[float]:
    return [s.score for s in scored_programs(store, config.iterations, arm)]


def permutation_p(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p of a difference of means: how often is it as large with the labels shuffled?

    The shuffles are random, and the same each time.
    """
    import numpy as np

    scores, first = np.array([*mine, *theirs]), len(mine)
    draw = np.random.default_rng(0)
    shuffled = np.stack([draw.permutation(scores)[:first].sum() for _ in range(PERMUTATIONS)])
    middle = scores.sum() * first / len(scores)
    as_large = np.abs(shuffled - middle) >= abs(scores[:first].sum() - middle) - 1e-9
    return float(1 + as_large.sum()) / (PERMUTATIONS + 1)


def arm_verdict(compared: Sequence[Mapping[str, Any]]) -> str:
    """The stated comparisons in words; empty without any."""
    if not compared:
        return ""
    parts = []
    for row in compared:
        how = "above" if row["difference"] > 0 else "below"
        how = how if row["p_holm"] < ALPHA else "not shown to differ from"
        low, high = row["low"], row["high"]
        interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
        p = p_text(row["p_holm"])
        parts.append(f"{how} {row['b']} ({row['difference']:+.3f}{interval}, p {p})")
    return f"In the last iteration main's mean dev score is {'; '.join(parts)}."
