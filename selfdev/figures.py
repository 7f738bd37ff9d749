"""The data of the paper's tables and figures, read from run.db. Nothing here draws or loads torch.

Table 2 (the best program of each iteration), table 5 (words of the strategies), figure 4 (dev scores),
figures 7 and 8 (dev against test), figure 9 (how samples ended): of the arm `main`. And what each arm reached.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.records.candidate import Candidate
from ..engine.records.store import Store
from ..engine.screening.folder import read_config
from ..engine.screening.place import DATABASE
from .arm_results import Reached
from .names import arms_of
from .results import best_by_iteration, scores_of

COMMENT = re.compile(r"#+(.*)$", re.MULTILINE)
WORD = re.compile(r"[a-z][a-z0-9]+")
# Words that say nothing of a strategy.
COMMON = frozenset(
    "the and for with from that this are not all any each one two its use using based into then than can "
    "will our you your more less other new which where when how over per two three first second of to in "
    "is it on by as or an be we if at so".split()
)
NUM_WORDS = 100
# An update is linear whose distance from the best weighted sum is at most this share of its norm.
LINEAR = 0.01


def figures(folder: Path) -> dict[str, Any]:
    """The data of a run's tables and figures, by name."""
    config: Mapping[str, Any] = read_config(folder)
    known = config.get("baselines", ())
    with Store.read(folder / DATABASE) as store:
        sampled = {i: store.candidates(i) for i in store.iterations()}
        return {
            "table_2": [
                {"iteration": i, **scores_of(store, name)} for i, name in best_by_iteration(store)
            ],
            "table_5": {i: words_of(found) for i, found in sampled.items()},
            "figure_4": {i: dev_scores(store, found) for i, found in sampled.items()},
            "figures_7_and_8": {
                "programs": pairs_of(store, [c for found in sampled.values() for c in found]),
                "known": {name: pairs_of(store, settings_of(store, name)) for name in known},
            },
            "figure_9": {i: turn.get("categories") for i, turn in store.iterations().items()},
            "arms": {name: of_arm(store, name, known) for name in arms_of(config)},
        }


def of_arm(store: Store, arm: str, known: Sequence[str]) -> dict[str, Any]:
    """What an arm reached: its scored updates in the order drawn, and what kind they are.

    `samples` are how many were drawn for each update, `scores` its dev score. `linear` is the share that
    is a weighted sum to within 1 %, `above_best_baseline` the share with a better dev score.
    """
    reached = Reached.of(store, arm)
    settings = [c for method in known for c in settings_of(store, method)]
    bar = max(dev_scores(store, settings), default=None)
    turns = {i: store.candidates(i, arm) for i in store.iterations(arm)}
    found = {c.duplicate_of or c.id: c for turn in turns.values() for c in turn if c.is_valid}
    linear = [c.linear["residual"] <= LINEAR for c in found.values() if c.linear]
    return {
        "samples": reached.places,
        "scores": reached.scores,
        "dev_scores": {i: dev_scores(store, turn) for i, turn in turns.items()},
        "linear": share(linear),
        "above_best_baseline": share([bar is not None and s > bar for s in reached.scores]),
    }


def share(truths: Sequence[bool]) -> float | None:
    return sum(truths) / len(truths) if truths else None


def words_of(candidates: list[Candidate]) -> dict[str, int]:
    """How many programs that ran have each word in their comments, the most frequent first."""
    counts = Counter[str]()
    for c in candidates:
        if c.is_valid:
            text = " ".join(COMMENT.findall(c.source or "")).lower()
            counts.update(set(WORD.findall(text)) - COMMON)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_WORDS])


def dev_scores(store: Store, candidates: list[Candidate]) -> list[float]:
    """Dev scores of the distinct programs that ran, in the order in which they were sampled."""
    scores = (store.score(c.id) for c in candidates if c.is_valid)
    return [score.score for score in scores if score]


def settings_of(store: Store, method: str) -> list[Candidate]:
    """All settings of a known method."""
    return [c for c in store.candidates() if c.id.split("-")[0] == method]


def pairs_of(store: Store, candidates: list[Candidate]) -> list[dict[str, Any]]:
    """{id, dev, test} of those that were scored on test."""
    found = []
    for c in candidates:
        dev, test = store.score(c.id), store.score(c.id, "test")
        if c.is_valid and dev and test:
            found.append({"id": c.id, "dev": dev.score, "test": test.score})
    return found
