"""run.db: every candidate, score and answer of a run, in SQLite, with a transaction for each step.

All SQL is here, in marks.py, iterations.py, overview.py and schema.py. What was written survives a kill at any
time; readers may look while a run writes.
"""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..given import checked
from .candidate import (
    MAIN,
    OF_THE_TEXT,
    Candidate,
    candidate_of,
    clean,
    digest_of,
)
from .database import check_version, connect, connect_to_read, is_empty, naming
from .forms import Form, in_file, stored
from .inputs import Input, input_of
from .iterations import Iterations
from .marks import Marks
from .overview import Overview
from .schema import VERSION, create, migrate, version_of
from .score import Sample, Score
from .sound import check_values

PRODUCT_VERSION = importlib.metadata.version("selfdev-engine")
CANDIDATE = (
    "SELECT c.*, t.tier, t.fingerprint FROM candidates c LEFT JOIN traces t ON t.candidate = c.id"
)
# Duplicates are not in this, so a look-up costs no more where a plan has thousands of them.
SCORED = (
    "SELECT c.id, t.sketch FROM traces t JOIN candidates c ON c.id = t.candidate WHERE t.scored = 1"
)
# An arm finds its own candidates and the known models before those of other arms, as if it were alone.
OWN = "(c.arm = ? OR c.iteration IS NULL)"
# The columns that `decide` may set besides `linear`.
OUTCOME = (
    *("status", "kind", "detail", "line", "duplicate_of", "weights_fingerprint", "seconds"),
    "failed_by",
)


class Store(Marks, Iterations, Overview):
    """One run's database; a context manager. A write outside of `transaction` is kept at once.

    Screenings and loops write it, one process at a time; reports and exports read it.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db, self.path = connection, path

    @staticmethod
    @checked()
    def open(path: Path) -> Store:
        """Open a database to write, or create it. An older version becomes today's.

        UsageError where the file is something else, or of a version that is not known.
        """
        with naming(path):
            db = connect(str(path))
            is_new = is_empty(db)
            if not is_new:
                check_version(path, db)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            if is_new:
                create(db)
            elif version_of(db) < VERSION:
                migrate(db)
            check_values(db, path)
        return Store(db, path)

    @staticmethod
    @checked()
    def read(path: Path) -> Store:
        """Open a database to read; the file is never changed.

        An older version is migrated in memory. UsageError where the file is something else, or of a
        version that is not known.
        """
        with naming(path):
            db = connect_to_read(path)
            if check_version(path, db) < VERSION:
                copy = connect(":memory:", str(path))
                db.backup(copy)
                db.close()
                migrate(copy)
                db = copy
            check_values(db, path)
        return Store(db, path)

    @contextmanager
    def transaction(self):
        """Keep all that is written inside, or nothing where an exception ends it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have ended it already
                self._db.execute("ROLLBACK")
            raise

    # ---- settings and events

    def setting(self, key: str, form: Form = "any") -> Any:
        """Return a stored setting, or None where it was not set. UsageError for one of another form."""
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        place = in_file(self.path, "table settings", f"row with key {key!r}")
        return stored(row["value"], place, form) if row else None

    def set_setting(self, key: str, value: object) -> None:
        """Store a setting, as JSON, in place of an earlier value."""
        text = json.dumps(value)
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, text))

    def add_event(self, kind: str, **detail: object) -> None:
        """Note that something happened now, with details as JSON."""
        row = (time.time(), kind, json.dumps(detail))
        self._db.execute("INSERT INTO events VALUES (?, ?, ?)", row)

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (kind, detail) of all events, in the order in which they happened."""
        rows = self._db.execute("SELECT kind, detail FROM events ORDER BY rowid").fetchall()
        place = in_file(self.path, "table events", "column detail")
        return [(row["kind"], stored(row["detail"], place, "object")) for row in rows]

    # ---- what the run belongs to

    def inputs(self) -> dict[str, Input]:
        """What the run belongs to, by role; empty for a run of a version that did not record it."""
        rows = self._db.execute("SELECT * FROM inputs ORDER BY rowid").fetchall()
        return {row["role"]: input_of(row, self.path) for row in rows}

    def set_input(self, found: Input) -> None:
        self._db.execute(
            "INSERT INTO inputs VALUES (?, ?, ?, ?) ON CONFLICT (role) DO UPDATE SET "
            "place = excluded.place, files = excluded.files, parts = excluded.parts",
            found.to_row(),
        )

    # ---- statistics of the task vectors; floats as hexadecimal text, so that NaN survives

    def statistics(self, tensor: str) -> dict[str, float]:
        """Return the kept statistics of a tensor's task vectors, by key, the oldest first."""
        found = self._db.execute(
            "SELECT key, value FROM statistics WHERE tensor = ? ORDER BY rowid", (tensor,)
        )
        return {row["key"]: float.fromhex(row["value"]) for row in found}

    def keep_statistic(self, tensor: str, key: str, value: float) -> None:
        """Keep a statistic of a tensor's task vectors, unless its key is known."""
        row = tensor, key, value.hex()
        self._db.execute("INSERT OR IGNORE INTO statistics VALUES (?, ?, ?)", row)

    def drop_statistic(self, tensor: str, key: str) -> None:
        self._db.execute("DELETE FROM statistics WHERE tensor = ? AND key = ?", (tensor, key))

    # ---- candidates

    def add_candidates(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add new candidates, in the order given.

        A row has id and source, and optionally params, arm, iteration, generator, stop_reason.
        """
        (count,) = self._db.execute("SELECT count(*) FROM candidates").fetchone()
        columns = "id, ordinal, source, params, text, iteration, generator, stop_reason, arm"
        for i, row in enumerate(rows):
            source, params = clean(row["source"]), json.dumps(dict(row.get("params") or {}))
            values = [row["id"], count + i, source, params, digest_of(source, params)]
            values += [row.get(key) for key in ("iteration", "generator", "stop_reason")]
            marks = ", ".join("?" * (len(values) + 1))
            insert = f"INSERT INTO candidates ({columns}) VALUES ({marks})"
            self._db.execute(insert, (*values, row.get("arm", MAIN)))

    def candidates(self, iteration: int | None = None, arm: str = MAIN) -> list[Candidate]:
        """Return all candidates, or those of one iteration of an arm, in the order in which they came."""
        where = "" if iteration is None else "WHERE arm = ? AND iteration = ?"
        values = () if iteration is None else (arm, iteration)
        rows = self._db.execute(f"{CANDIDATE} {where} ORDER BY ordinal", values).fetchall()
        return [candidate_of(row, self.path) for row in rows]

    def candidate(self, name: str) -> Candidate | None:
        """Return a candidate by id, or None."""
        row = self._db.execute(f"{CANDIDATE} WHERE c.id = ?", (name,)).fetchone()
        return candidate_of(row, self.path) if row else None

    def add_trace(
        self,
        name: str,
        tier: str,
        reason: str | None,
        fingerprint: str,
        asks: int,
        norm: float,
        sketch: Sequence[float],
        scored: bool = True,
    ) -> None:
        """Store how a program was understood.

        `norm` and `sketch` are of its update (screening/twins.py). `scored` says that the candidate
        is scored for itself, so that others may be its duplicates.
        """
        row = (name, tier, clean(reason), fingerprint, asks, norm, json.dumps(list(sketch)), scored)
        self._db.execute("INSERT OR REPLACE INTO traces VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def add_plan(self, fingerprint: str, data: bytes) -> None:
        """Store a plan that is scored, as its bytes, unless it is stored."""
        row = (fingerprint, zlib.compress(data))
        self._db.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", row)

    def plan(self, fingerprint: str) -> bytes | None:
        """Return a stored plan's bytes; None where it was not stored."""
        query = "SELECT data FROM plans WHERE fingerprint = ?"
        row = self._db.execute(query, (fingerprint,)).fetchone()
        return zlib.decompress(row["data"]) if row else None

    def decided_as(self, candidate: Candidate) -> Candidate | None:
        """Return the first other candidate with this one's text whose outcome can be reused."""
        query = (
            f"{CANDIDATE} WHERE c.text = ? AND c.id != ? "
            f"AND c.status IN ({', '.join('?' * len(OF_THE_TEXT))})"
        )
        row = self._first(query, (candidate.text, candidate.id, *OF_THE_TEXT), candidate.arm)
        return candidate_of(row, self.path) if row else None

    def _first(self, query: str, values: Sequence[object], arm: str) -> sqlite3.Row | None:
        """Return the first candidate of a query, by preference one of this arm or a known model."""
        for mine, more in ((f" AND {OWN}", (arm,)), ("", ())):
            words = f"{query}{mine} ORDER BY c.ordinal LIMIT 1"
            if row := self._db.execute(words, (*values, *more)).fetchone():
                return row
        return None

    def decide_like(self, known: str, name: str, **outcome: object) -> None:
        """Decide a candidate like a known one: all that was found out about that one holds too."""
        columns = "tier, reason, fingerprint, asks, norm, sketch"
        self._db.execute(
            f"INSERT OR REPLACE INTO traces (candidate, {columns}, scored) "
            f"SELECT ?, {columns}, 0 FROM traces WHERE candidate = ?",
            (name, known),
        )
        same = self.candidate(known)
        self.decide(name, linear=same.linear if same else None, **outcome)

    def scored_as(self, fingerprint: str, arm: str = MAIN) -> str | None:
        """Return the id of the first scored candidate with this fingerprint of a plan, or None."""
        row = self._first(f"{SCORED} AND t.fingerprint = ?", (fingerprint,), arm)
        return row["id"] if row else None

    def scored_near(
        self, low: float, high: float, arm: str = MAIN
    ) -> list[tuple[str, list[float]]]:
        """Return (id, sketch) of the scored candidates whose update's norm lies in [low, high].

        They come in the order of the candidates, those of the arm and the known models first.
        """
        query = f"{SCORED} AND t.norm BETWEEN ? AND ? ORDER BY NOT {OWN}, c.ordinal"
        rows = self._db.execute(query, (low, high, arm)).fetchall()
        place = in_file(self.path, "table traces", "column sketch")
        return [(row["id"], stored(row["sketch"], place, ("number",))) for row in rows]

    def decide(
        self, name: str, *, linear: Mapping[str, Any] | None = None, **outcome: object
    ) -> None:
        """Store how a candidate ended.

        `outcome` has its status, and kind, detail, line, duplicate_of and the like.
        """
        assert outcome.keys() <= set(OUTCOME), outcome
        values = {**outcome, "linear": json.dumps(linear) if linear else None}
        assignments = ", ".join(f"{column} = :{column}" for column in values)
        self._db.execute(
            f"UPDATE candidates SET {assignments} WHERE id = :id", {**values, "id": name}
        )

    # ---- scores

    def add_score(
        self,
        name: str,
        task: str,
        split: str,
        score: Score,
        samples: Sequence[Sample],
        made_with: Mapping[str, str],
    ) -> None:
        """Store a score, its answers, and what it was made with (`score.provenance`)."""
        s, made = score, json.dumps(dict(made_with))
        counts = (s.correct, s.n, s.score, s.low, s.high, s.strict, s.flexible)
        row = (name, task, split, *counts, made)
        self._db.execute(f"INSERT INTO scores VALUES ({', '.join('?' * len(row))})", row)
        asked = [(clean(a.question), clean(a.prompt)) for a in samples]
        self._db.executemany(
            "INSERT OR IGNORE INTO questions (question, prompt) VALUES (?, ?)", asked
        )
        self._db.executemany(
            "INSERT INTO answers SELECT ?, ?, ?, ?, id, ?, ?, ?, ?, ? FROM questions "
            "WHERE question = ? AND prompt = ?",
            [
                (name, task, split, a.index, clean(a.response), clean(a.extracted), a.correct,
                 a.strict, a.flexible, *texts)
                for a, texts in zip(samples, asked, strict=True)
            ],
        )  # fmt: skip

    def leaders(self, count: int) -> list[tuple[str, Score]]:
        """Return (id, score) of the best scored candidates on dev; of equals the earliest first."""
        query = (
            "SELECT s.candidate FROM scores s JOIN candidates c ON c.id = s.candidate "
            "WHERE s.split = 'dev' AND c.status = 'scored' ORDER BY s.score DESC, c.ordinal LIMIT ?"
        )
        names = [row["candidate"] for row in self._db.execute(query, (count,))]
        found = ((name, self.score(name)) for name in names)
        return [(name, score) for name, score in found if score]

    def made_with(self, name: str, split: str = "dev") -> dict[str, str] | None:
        """Return engine, task version and grader of a candidate's own score, or None."""
        query = "SELECT made_with FROM scores WHERE +split = ? AND candidate = ?"
        row = self._db.execute(query, (split, name)).fetchone()
        place = in_file(
            self.path, "table scores", "column made_with", f"row with candidate {name!r}"
        )
        return stored(row["made_with"], place, {"*": "text"}) if row else None

    def undecided(self, names: Iterable[str]) -> Iterator[Candidate]:
        """Yield those of these candidates that are still to be decided, read one at a time."""
        for name in names:
            if (found := self.candidate(name)) and found.is_open(PRODUCT_VERSION):
                yield found

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
