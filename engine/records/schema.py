"""The tables of run.db, and how an older run becomes one of today.

A migration is a list of statements from one version to the next. Readers migrate a copy in memory,
so a run of an older version can be looked at without being changed.
"""

from __future__ import annotations

import sqlite3

# The format that is written, and the oldest one that can be read.
VERSION = 7
FIRST_VERSION = 3
SCHEMA = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE candidates (
  id TEXT PRIMARY KEY, ordinal INTEGER NOT NULL, source TEXT, params TEXT NOT NULL,
  text TEXT NOT NULL, iteration INTEGER, generator TEXT, status TEXT, kind TEXT, detail TEXT, line INTEGER,
  duplicate_of TEXT, linear TEXT, weights_fingerprint TEXT, seconds REAL, failed_by TEXT,
  arm TEXT NOT NULL DEFAULT 'main', stop_reason TEXT, held_out INTEGER NOT NULL DEFAULT 0);
CREATE INDEX by_text ON candidates (text, ordinal);
CREATE INDEX by_iteration ON candidates (arm, iteration, ordinal);
CREATE TABLE traces (
  candidate TEXT PRIMARY KEY REFERENCES candidates, tier TEXT NOT NULL, reason TEXT,
  fingerprint TEXT NOT NULL, asks INTEGER NOT NULL, norm REAL NOT NULL, sketch TEXT NOT NULL,
  scored INTEGER NOT NULL);
CREATE INDEX by_fingerprint ON traces (scored, fingerprint);
CREATE INDEX by_norm ON traces (scored, norm);
CREATE TABLE scores (
  candidate TEXT NOT NULL, task TEXT NOT NULL, split TEXT NOT NULL, correct INTEGER NOT NULL,
  n INTEGER NOT NULL, score REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
  strict INTEGER NOT NULL, flexible INTEGER NOT NULL, made_with TEXT NOT NULL,
  PRIMARY KEY (candidate, task, split));
CREATE INDEX by_score ON scores (split, score);
CREATE TABLE statistics (
  tensor TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tensor, key));
CREATE TABLE preferences (
  iteration INTEGER NOT NULL, chosen TEXT NOT NULL, rejected TEXT NOT NULL, held_out INTEGER NOT NULL,
  arm TEXT NOT NULL DEFAULT 'main');
CREATE TABLE events (at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL);
"""
INPUTS = (
    "CREATE TABLE inputs (role TEXT PRIMARY KEY, place TEXT NOT NULL, files TEXT NOT NULL, "
    "parts TEXT NOT NULL)"
)
ITERATIONS = (
    "CREATE TABLE iterations (arm TEXT NOT NULL, iteration INTEGER NOT NULL, data TEXT NOT NULL, "
    "PRIMARY KEY (arm, iteration))"
)
# What was scored, by the fingerprint of its plan: no program is run again to learn it.
PLANS = "CREATE TABLE plans (fingerprint TEXT PRIMARY KEY, data BLOB NOT NULL)"
# Each is stored once: a prompt has kilobytes, and every candidate answers it.
QUESTIONS = (
    "CREATE TABLE questions (id INTEGER PRIMARY KEY, question TEXT NOT NULL, prompt TEXT NOT NULL, "
    "UNIQUE (question, prompt))"
)
ANSWERS = (
    "CREATE TABLE answers (candidate TEXT NOT NULL, task TEXT NOT NULL, split TEXT NOT NULL, "
    "idx INTEGER NOT NULL, question INTEGER NOT NULL REFERENCES questions, response TEXT, "
    "extracted TEXT, correct INTEGER, strict INTEGER, flexible INTEGER, "
    "PRIMARY KEY (candidate, task, split, idx))"
)
# Every answer had the text of its question and prompt.
TO_QUESTIONS = (
    QUESTIONS,
    "INSERT INTO questions (question, prompt) SELECT coalesce(question, ''), coalesce(prompt, '') "
    "FROM answers GROUP BY 1, 2 ORDER BY min(rowid)",
    "ALTER TABLE answers RENAME TO answers_6",
    ANSWERS,
    "INSERT INTO answers SELECT a.candidate, a.task, a.split, a.idx, q.id, a.response, a.extracted, "
    "a.correct, a.strict, a.flexible FROM answers_6 a JOIN questions q "
    "ON q.question = coalesce(a.question, '') AND q.prompt = coalesce(a.prompt, '') ORDER BY a.rowid",
    "DROP TABLE answers_6",
)
# How samples ended and which were held out were settings of each iteration; there was one arm.
TO_ARMS = (
    "ALTER TABLE candidates ADD COLUMN arm TEXT NOT NULL DEFAULT 'main'",
    "ALTER TABLE candidates ADD COLUMN stop_reason TEXT",
    "ALTER TABLE candidates ADD COLUMN held_out INTEGER NOT NULL DEFAULT 0",
    "UPDATE candidates SET stop_reason = j.value FROM settings s, json_each(s.value) j "
    "WHERE s.key LIKE 'stop reasons %' AND j.key = candidates.id",
    "UPDATE candidates SET held_out = 1 FROM settings s, json_each(s.value) j "
    "WHERE s.key LIKE 'holdout %' AND j.value = candidates.id",
    "DELETE FROM settings WHERE key LIKE 'stop reasons %' OR key LIKE 'holdout %'",
    "DROP INDEX by_iteration",
    "CREATE INDEX by_iteration ON candidates (arm, iteration, ordinal)",
    "ALTER TABLE preferences ADD COLUMN arm TEXT NOT NULL DEFAULT 'main'",
    "ALTER TABLE iterations RENAME TO iterations_5",
    ITERATIONS,
    "INSERT INTO iterations SELECT 'main', iteration, data FROM iterations_5",
    "DROP TABLE iterations_5",
)
# By version: the statements that make it the next version.
MIGRATIONS = {
    3: ("ALTER TABLE candidates ADD COLUMN failed_by TEXT",),
    4: (INPUTS,),
    5: (*TO_ARMS, PLANS),
    6: TO_QUESTIONS,
}


def create(db: sqlite3.Connection) -> None:
    """Make all tables in an empty database."""
    tables = "; ".join((INPUTS, ITERATIONS, PLANS, QUESTIONS, ANSWERS))
    db.executescript(f"BEGIN; {SCHEMA} {tables}; PRAGMA user_version={VERSION}; COMMIT;")


def version_of(db: sqlite3.Connection) -> int:
    """Return the format of a database; 0 for one without tables of ours."""
    return db.execute("PRAGMA user_version").fetchone()[0]


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database of FIRST_VERSION or later to VERSION, in one transaction."""
    steps = [step for v in range(version_of(db), VERSION) for step in MIGRATIONS[v]]
    db.executescript(
        "BEGIN; " + "".join(f"{s};" for s in steps) + f"PRAGMA user_version={VERSION}; COMMIT;"
    )
