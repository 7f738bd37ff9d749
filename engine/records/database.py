"""Opens the SQLite file of a run, to write or to read, and says what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError
from .schema import FIRST_VERSION, VERSION, version_of


def connect(name: str, **options: bool) -> sqlite3.Connection:
    """Connect to SQLite so that transactions are explicit and rows have names."""
    db = sqlite3.connect(name, isolation_level=None, **options)
    db.row_factory = sqlite3.Row
    return db


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Connect read-only.

    Where the folder cannot be written, no other process may write either, so the file is read as it
    is: SQLite would need a file beside it to see a writer's changes.
    """
    uri = path.absolute().as_uri()
    try:
        db = connect(f"{uri}?mode=ro", uri=True)
        version_of(db)
    except sqlite3.OperationalError:
        db = connect(f"{uri}?mode=ro&immutable=1", uri=True)
    return db


def check_version(path: Path, db: sqlite3.Connection) -> int:
    """Return the version of a database.

    UsageError where the file is no run, or of a version that this one does not know.
    """
    version = version_of(db)
    if version == 0:
        raise UsageError(f"{path}: not a run's database: it has no tables of a run")
    if not FIRST_VERSION <= version <= VERSION:
        raise UsageError(
            f"{path}: a run of format {version}; this version reads {FIRST_VERSION} to {VERSION}"
        )
    return version


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a UsageError that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a run's database: {error}") from None
