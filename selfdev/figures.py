"""The data of the paper's tables and figures, read from run.db. Nothing here draws or loads torch.

Table 2 (the best program of each iteration), table 5 (words of the strategies), figure 4 (dev scores),
figures 7 and 8 (dev against test), figure 9 (how samples ended).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.records.candidate import Candidate
from ..engine.records.store import Store
from ..engine.screening.folder import read_config
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


def figures(folder: Path) -> dict[str, Any]:
    """The data of a run's tables and figures, by name."""
    config: Mapping[str, Any] = read_config(folder)
    known = config.get("baselines", ())
    with Store.read(folder / "run.db") as store:
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
        }


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
