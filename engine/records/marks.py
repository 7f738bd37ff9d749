"""The part of run.db that says which questions each candidate got right, and its scores."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .forms import damaged, in_file
from .score import Score
from .sound import check_answers, check_sample


class Marks:
    """What scores and answers of candidates are read. Store has it."""

    _db: sqlite3.Connection
    path: Path

    def score(self, name: str, split: str = "dev") -> Score | None:
        """Return a candidate's score, or None; a duplicate has that of the one it points to."""
        # The plus keeps SQLite from going through all scores of the split.
        query = (
            "SELECT * FROM scores WHERE +split = ? AND candidate = "
            "coalesce((SELECT duplicate_of FROM candidates WHERE id = ?), ?)"
        )
        row = self._db.execute(query, (split, name, name)).fetchone()
        counts = ("correct", "n", "score", "low", "high", "strict", "flexible")
        return Score(*map(row.__getitem__, counts)) if row else None

    def outcomes(self, name: str, split: str = "dev") -> dict[int, bool]:
        """Return right or wrong by question; a duplicate has those of the one it points to."""
        query = (
            "SELECT idx, correct FROM answers WHERE split = ? AND candidate = "
            "coalesce((SELECT duplicate_of FROM candidates WHERE id = ?), ?) ORDER BY idx"
        )
        found = self._marked(query, name, split)
        check_answers(self.path, name, "idx", (row[0] for row in found), "whole")
        return {i: bool(right) for i, right in found}

    def answers(self, name: str, split: str = "dev") -> dict[tuple[str, int], bool]:
        """Right or wrong by question's text, and by how often it came before: a task may repeat one."""
        query = (
            "SELECT q.question, a.correct FROM answers a JOIN questions q ON q.id = a.question "
            "WHERE a.split = ? AND a.candidate = "
            "coalesce((SELECT duplicate_of FROM candidates WHERE id = ?), ?) ORDER BY a.idx"
        )
        times, found = Counter[str](), dict[tuple[str, int], bool]()
        for question, right in self._marked(query, name, split):
            found[question, times[question]] = bool(right)
            times[question] += 1
        return found

    def _marked(self, query: str, name: str, split: str) -> list[sqlite3.Row]:
        """Return rows of answers, whose second column is whether each is right.

        UsageError where their score counts others.
        """
        # A writer adds both in one transaction, so the answers of a score that is there are there, too.
        score = self.score(name, split)
        rows = self._db.execute(query, (split, name, name)).fetchall()
        check_answers(self.path, name, "correct", (row[1] for row in rows), "truth")
        mine = sum(row[1] for row in rows), len(rows)
        if score and (score.correct, score.n) != mine:
            place = f"rows with candidate {name!r} and split {split!r}"
            words = f"{mine[0]} of {mine[1]} are right, and the score counts {score.correct} of {score.n}"
            raise damaged(in_file(self.path, "table answers", place), words)
        return rows

    def samples(self) -> Iterable[dict[str, Any]]:
        """Yield every answer as an object for a line of samples.jsonl."""
        query = (
            "SELECT a.candidate, a.split, q.question, q.prompt, a.response, a.extracted, a.correct, "
            "a.strict, a.flexible, a.idx AS 'index' "
            "FROM answers a JOIN questions q ON q.id = a.question ORDER BY a.rowid"
        )
        for row in self._db.execute(query):
            check_sample(self.path, row)
            truths = {key: bool(row[key]) for key in ("correct", "strict", "flexible")}
            yield {**dict(zip(row.keys(), row, strict=True)), **truths}
