"""Tells whether every value of run.db is of its column's kind: SQLite takes any value in any column.

A failing disk, or a hand in the file, leaves text where a number belongs. That is said when the file is
opened, with its table, column and row, so that nobody who reads a row has to ask.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .candidate import BASE, Status
from .forms import damaged, in_file, shown
from .schema import create

# The kinds of value that SQLite may hold in a column of each type, and words for one.
KINDS = {
    "INTEGER": (("integer",), "a whole number"),
    "REAL": (("real", "integer"), "a finite number"),
    "TEXT": (("text",), "text"),
    "BLOB": (("blob",), "bytes"),
}
# Columns of `candidates` that hold one of a few words, and how a message calls such a word.
FEW = {"status": ("status", tuple(Status))}
# What no score can be, by condition, and how a message says it. Scores that were computed differ by rounding.
CONTRADICTIONS = {
    "n < 1": "n is {n}, and a score is of one question at least",
    "min(correct, strict, flexible) < 0": "a count of right answers is below 0",
    "max(correct, strict, flexible) > n": "more answers are right than the {n} that were given",
    "abs(score - 1.0 * correct / n) > 1e-9": "score is {score}, and {correct} of {n} answers are right",
    "NOT 0 <= low OR NOT low <= score OR NOT score <= high OR NOT high <= 1": "its interval, {low} to {high}, is "
    "none of its score, {score}",
}
# A run has millions of answers; who reads some checks these.
MANY = "answers"
# What a value of an answer must be, and words for it.
ANSWERS = {
    "truth": (lambda value: value in (0, 1), "0 or 1"),
    "whole": (lambda value: type(value) is int, "a whole number"),
    "text": (lambda value: value is None or type(value) is str, "text"),
}
SAMPLE = {**dict.fromkeys(("correct", "strict", "flexible"), "truth"), "index": "whole"}


@dataclass(frozen=True)
class Column:
    """A column of a table as the schema has it."""

    name: str
    type: str
    is_null_allowed: bool
    is_key: bool

    @property
    def fault(self) -> str:
        """The condition that is true for a row with a value of another kind."""
        kinds = [*KINDS[self.type][0], *(["null"] if self.is_null_allowed else [])]
        endless = f" OR {self.name} IN (9e999, -9e999)" if self.type == "REAL" else ""
        return f"typeof({self.name}) NOT IN ({', '.join(map(repr, kinds))}){endless}"


@cache
def tables() -> dict[str, list[Column]]:
    """Return the columns of each table of today's format."""
    with closing(sqlite3.connect(":memory:")) as db:
        create(db)
        names = [
            row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {table: columns_of(db, table) for table in names}


def columns_of(db: sqlite3.Connection, table: str) -> list[Column]:
    rows = db.execute(f"PRAGMA table_info({table})").fetchall()
    return [Column(row[1], row[2], not (row[3] or row[5]), bool(row[5])) for row in rows]


def check_values(db: sqlite3.Connection, path: Path) -> None:
    """Raise UsageError for a table or column that is absent, or a value of another kind."""
    for table, columns in tables().items():
        there = {column.name for column in columns_of(db, table)}
        if not there:
            raise damaged(
                in_file(path, f"it lacks the table {table}"), "this table is of every run"
            )
        if lacking := [column.name for column in columns if column.name not in there]:
            raise damaged(in_file(path, f"table {table}"), f"it lacks the column {lacking[0]}")
        if table != MANY:
            check_table(db, path, table, columns)
    query = "SELECT id FROM candidates WHERE source IS NULL AND id != ? LIMIT 1"
    if row := db.execute(query, (BASE,)).fetchone():
        place = in_file(path, "table candidates", "column source", f"row with id {row[0]!r}")
        raise damaged(place, "it is null, and only the base has no program")
    check_few(db, path)
    check_scores(db, path)


def check_scores(db: sqlite3.Connection, path: Path) -> None:
    """Raise UsageError for a score that contradicts itself: no questions that were asked can give it."""
    for condition, words in CONTRADICTIONS.items():
        if row := db.execute(f"SELECT * FROM scores WHERE {condition} LIMIT 1").fetchone():
            name = f"row with candidate {row['candidate']!r} and split {row['split']!r}"
            raise damaged(in_file(path, "table scores", name), words.format(**row))


def check_few(db: sqlite3.Connection, path: Path) -> None:
    """Raise UsageError for a word of a candidate that this version does not know: no count would have it."""
    for column, (what, known) in FEW.items():
        marks = ", ".join("?" * len(known))
        query = f"SELECT id, {column} FROM candidates WHERE {column} NOT IN ({marks}) LIMIT 1"
        if row := db.execute(query, known).fetchone():
            place = in_file(path, "table candidates", f"column {column}", f"row with id {row[0]!r}")
            raise damaged(
                place, f"it is {shown(row[1])}, which is no {what} that this version knows"
            )


def check_table(db: sqlite3.Connection, path: Path, table: str, columns: Sequence[Column]) -> None:
    """Raise UsageError for the first value of another kind in a table; it is gone through once."""
    faults = " OR ".join(column.fault for column in columns)
    found = db.execute(f"SELECT rowid FROM {table} WHERE {faults} LIMIT 1").fetchone()
    if found is None:
        return
    (row,) = found
    for column in columns:
        query = f"SELECT {column.name} FROM {table} WHERE rowid = ? AND ({column.fault})"
        if bad := db.execute(query, (row,)).fetchone():
            place = f"row with {row_name(db, table, columns, row)}"
            place = in_file(path, f"table {table}", f"column {column.name}", place)
            raise damaged(place, f"it is {shown(bad[0])}, where {KINDS[column.type][1]} belongs")


def row_name(db: sqlite3.Connection, table: str, columns: Sequence[Column], row: int) -> str:
    """Return what tells a row from others, by its key where the table has one."""
    keys = [column.name for column in columns if column.is_key] or ["rowid"]
    values = db.execute(f"SELECT {', '.join(keys)} FROM {table} WHERE rowid = ?", (row,)).fetchone()
    return " and ".join(f"{key} {shown(value)}" for key, value in zip(keys, values, strict=True))


def check_answers(path: Path, name: str, column: str, values: Iterable[object], kind: str) -> None:
    """Raise UsageError where one of these answers of a candidate is of another kind (ANSWERS)."""
    is_one, words = ANSWERS[kind]
    for value in values:
        if not is_one(value):
            row = f"row with candidate {name!r}"
            place = in_file(path, f"table {MANY}", f"column {column}", row)
            raise damaged(place, f"it is {shown(value)}, where {words} belongs")


def check_sample(path: Path, row: sqlite3.Row) -> None:
    """Raise UsageError where a value of an answer is of another kind."""
    for column, value in zip(row.keys(), row, strict=True):
        kind = SAMPLE.get(column, "text")
        check_answers(path, row["candidate"], column, (value,), kind)
