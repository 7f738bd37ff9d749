"""The part of run.db that holds answers: which questions each candidate got right."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .sound import check_answers, check_sample


class Marks:
    """What candidates answered, as it is read. Store has it."""

    _db: sqlite3.Connection
    path: Path

    def outcomes(self, name: str, split: str = "dev") -> dict[int, bool]:
        """Return right or wrong by question; a duplicate has those of the one it points to."""
        query = (
            "SELECT idx, correct FROM answers WHERE split = ? AND candidate = "
            "coalesce((SELECT duplicate_of FROM candidates WHERE id = ?), ?) ORDER BY idx"
        )
        found = self._db.execute(query, (split, name, name)).fetchall()
        check_answers(self.path, name, "idx", (row[0] for row in found), "whole")
        check_answers(self.path, name, "correct", (row[1] for row in found), "truth")
        return {i: bool(right) for i, right in found}

    def answers(self, name: str, split: str = "dev") -> dict[tuple[str, int], bool]:
        """Right or wrong by question's text, and by how often it came before: a task may repeat one."""
        query = (
            "SELECT q.question, a.correct FROM answers a JOIN questions q ON q.id = a.question "
            "WHERE a.split = ? AND a.candidate = "
            "coalesce((SELECT duplicate_of FROM candidates WHERE id = ?), ?) ORDER BY a.idx"
        )
        times, found = Counter[str](), dict[tuple[str, int], bool]()
        rows = self._db.execute(query, (split, name, name)).fetchall()
        check_answers(self.path, name, "correct", (row[1] for row in rows), "truth")
        for question, right in rows:
            found[question, times[question]] = bool(right)
            times[question] += 1
        return found

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
