"""The part of run.db that says how a run went at a glance: the best, the counts. Each is one query."""

from __future__ import annotations

import sqlite3

from .candidate import MAIN
from .score import Score

COUNTS = ("correct", "n", "score", "low", "high", "strict", "flexible")

# Every candidate with the answers that say how good it is: its own, or those of the one it repeats.
WITH_SCORE = (
    "FROM candidates c JOIN scores s ON s.candidate = coalesce(c.duplicate_of, c.id) "
    "WHERE s.split = 'dev' AND c.source IS NOT NULL AND c.status IN ('scored', 'duplicate')"
)


class Overview:
    """What is asked of a run as a whole. Store has it."""

    _db: sqlite3.Connection

    def best(self, arm: str = MAIN) -> str | None:
        """Return the id of the best scored program of an arm; None where nothing was scored yet.

        It is one that the arm sampled, if there are any: one that repeats a known model has its score.
        """
        query = (
            f"SELECT c.id {WITH_SCORE} AND c.arm = ? AND "
            "(c.status = 'scored' OR c.iteration IS NOT NULL) "
            "ORDER BY c.iteration IS NULL, s.score DESC, c.ordinal LIMIT 1"
        )
        return self._id(query, arm)

    def best_setting(self, method: str) -> str | None:
        """Return the id of the method's candidate with the best dev score; the first of equals."""
        query = (
            f"SELECT c.id {WITH_SCORE} AND (c.id = ? OR substr(c.id, 1, ?) = ?) "
            "ORDER BY s.score DESC, c.ordinal LIMIT 1"
        )
        return self._id(query, method, len(method) + 1, f"{method}-")

    def _id(self, query: str, *values: object) -> str | None:
        row = self._db.execute(query, values).fetchone()
        return row["id"] if row else None

    def scores(self, split: str) -> dict[str, Score]:
        """Return the scores of a split by candidate; duplicates have none of their own here."""
        query = f"SELECT candidate, {', '.join(COUNTS)} FROM scores WHERE split = ?"
        return {row[0]: Score(*row[1:]) for row in self._db.execute(query, (split,))}

    def ids(self) -> list[str]:
        """Return the ids of all candidates, in the order in which they came."""
        return [row["id"] for row in self._db.execute("SELECT id FROM candidates ORDER BY ordinal")]

    def ranking(self, count: int, arm: str | None = None, sampled: bool = False) -> list[str]:
        """Return the ids of the best scored programs on dev, of one arm or of all, the base left out.

        Of equals the earliest comes first. With `sampled` only those of an iteration, so no known models.
        """
        query = (
            "SELECT c.id FROM scores s JOIN candidates c ON c.id = s.candidate WHERE s.split = 'dev' "
            "AND c.source IS NOT NULL AND c.status = 'scored' AND coalesce(?, c.arm) = c.arm "
            "AND (c.iteration IS NOT NULL OR NOT ?) ORDER BY s.score DESC, c.ordinal LIMIT ?"
        )
        return [row["id"] for row in self._db.execute(query, (arm, sampled, count))]

    def counts(self) -> dict[str, int]:
        """Return how many candidates ended in each way; those still to be decided are "open"."""
        query = (
            "SELECT coalesce(status, 'open') AS status, count(*) AS n FROM candidates "
            "WHERE source IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        return {row["status"]: row["n"] for row in self._db.execute(query)}

    def kinds(self) -> dict[str, int]:
        """Return how many programs were rejected for each kind of reason."""
        query = (
            "SELECT kind, count(*) AS n FROM candidates WHERE status = 'rejected' "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        return {row["kind"]: row["n"] for row in self._db.execute(query)}
