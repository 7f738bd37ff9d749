"""Reads all scores of a run at once, and escapes long texts fast: a page may have thousands of either."""

from __future__ import annotations

from collections.abc import Iterable

from ...engine.errors import visible
from ...engine.records.candidate import Candidate
from ...engine.records.score import Score
from ...engine.records.store import Store


def scores_on(store: Store, candidates: Iterable[Candidate], split: str) -> dict[str, Score]:
    """The scores of a split by id, as `Store.score` finds each: a duplicate has its original's."""
    own = store.scores(split)
    found = {c.id: own.get(c.duplicate_of or c.id) for c in candidates if c.has_score}
    return {name: score for name, score in found.items() if score}


def escaped(text: str) -> str:
    """The text as `visible` makes it. Only lines that hold something to escape are gone through."""
    if text.isprintable():
        return text
    return "\n".join(s if s.isprintable() else visible(s) for s in text.split("\n"))
