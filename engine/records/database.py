"""Opens the SQLite file of a run, to write or to read, and says what is wrong with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .schema import FIRST_VERSION, VERSION, version_of

# Maps SQLite's primary result codes for what the system or the file refuses to words for it.
REFUSALS = {
    sqlite3.SQLITE_FULL: "the disk is full; what was stored before is kept: free some space",
    sqlite3.SQLITE_IOERR: "the disk is full or failing; what was stored before is kept",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; its folder must be there and writable",
    sqlite3.SQLITE_BUSY: "another process is writing to it",
    sqlite3.SQLITE_LOCKED: "another process is writing to it",
    sqlite3.SQLITE_PERM: "access is refused",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore the folder from a copy, or start the run again",
}

# What helps where a file is no database of ours.
ANOTHER = "name the folder of a run; where this was one, restore it from a copy"
# How Python says that a text in the file is no UTF-8; SQLite looks at none.
NO_TEXT = "Could not decode to UTF-8"


class NamedCursor(sqlite3.Cursor):
    """A cursor of a NamedConnection: pages that are damaged show when rows are fetched."""

    def __init__(self, connection: NamedConnection) -> None:
        super().__init__(connection)
        self._place = connection.place

    def __next__(self) -> Any:
        # Millions of rows come this way; a context for each would take as long as they.
        try:
            return super().__next__()
        except sqlite3.DatabaseError as error:
            raise named(error, self._place) from None

    def fetchone(self) -> Any:
        with refusing(self._place):
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with refusing(self._place):
            return super().fetchall()


class NamedConnection(sqlite3.Connection):
    """A connection that turns what the system or the file refuses into a UsageError that names the file."""

    place = ""
    # The folder of a copy that is read in place of the file.
    copied: tempfile.TemporaryDirectory[str] | None = None

    def cursor(self, factory: Any = NamedCursor) -> Any:
        return super().cursor(factory)

    def execute(self, *words: Any) -> sqlite3.Cursor:
        # The connection's own method makes a cursor that names nothing.
        with refusing(self.place):
            return self.cursor().execute(*words)

    def executemany(self, *words: Any) -> sqlite3.Cursor:
        with refusing(self.place):
            return super().executemany(*words)

    def close(self) -> None:
        super().close()
        if self.copied:
            self.copied.cleanup()

    def executescript(self, *words: Any) -> sqlite3.Cursor:
        with refusing(self.place):
            return super().executescript(*words)


@contextmanager
def refusing(place: str) -> Iterator[None]:
    """Turn what the system or the file refuses into a UsageError; other errors of SQLite pass."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise named(error, place) from None


def named(error: sqlite3.DatabaseError, place: str) -> Exception:
    """Return the UsageError for what the system or the file refuses; another error as it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if str(error).startswith(NO_TEXT):
        code = sqlite3.SQLITE_CORRUPT
    return UsageError(f"{place}: {error}: {REFUSALS[code]}") if code in REFUSALS else error


def connect(name: str, place: str = "", **options: bool) -> NamedConnection:
    """Connect to SQLite so that transactions are explicit and rows have names.

    Messages call the file `place`, or `name` without one.
    """
    with refusing(place or name):
        db = sqlite3.connect(name, isolation_level=None, factory=NamedConnection, **options)
    db.place, db.row_factory = place or name, sqlite3.Row
    return db


def connect_to_read(path: Path) -> NamedConnection:
    """Connect read-only.

    Where the folder cannot be written, no other process may write either, so the file is read as it
    is: SQLite would need a file beside it to see a writer's changes. The log that a killed writer left
    beside it is read in a copy.
    """
    uri, place = path.absolute().as_uri(), str(path)
    try:
        db = connect(f"{uri}?mode=ro", place, uri=True)
        version_of(db)
    except UsageError:
        if not path.is_file():
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            return connect_to_copy(path, log)
        db = connect(f"{uri}?mode=ro&immutable=1", place, uri=True)
    return db


def connect_to_copy(path: Path, log: Path) -> NamedConnection:
    """Connect to a copy of the database and its log. The copy goes with the connection."""
    scratch = tempfile.TemporaryDirectory(prefix="selfdev-run-")
    copy = Path(scratch.name) / path.name
    shutil.copyfile(path, copy)
    shutil.copyfile(log, copy.with_name(log.name))
    db = connect(str(copy), str(path))
    db.copied = scratch
    return db


def is_begun(path: Path) -> bool:
    """Tell whether a run's database is there. One without any table was cut off when it was made."""
    if not path.is_file():
        return False
    try:
        with closing(connect_to_read(path)) as db:
            return not is_empty(db)
    except (sqlite3.DatabaseError, UsageError):
        # It is something, and whoever opens it says what is wrong with it.
        return True


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether a database has no tables, of ours or of others."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not (tables or version_of(db))


def check_version(path: Path, db: sqlite3.Connection) -> int:
    """Return the version of a database.

    UsageError where the file is no run, or of a version that this one does not know.
    """
    version = version_of(db)
    if version == 0:
        raise UsageError(f"{path}: not a run's database: it has no tables of a run; {ANOTHER}")
    if not FIRST_VERSION <= version <= VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise UsageError(
            f"{path}: a run of format {version}; this version reads {FIRST_VERSION} to {VERSION}: "
            f"read it with {age} version of selfdev-engine, as the one that made it"
        )
    return version


def check_readable(path: Path) -> None:
    """Raise UsageError where a run's database is a folder, or may not be read."""
    try:
        is_folder, refused = path.is_dir(), path.exists() and not os.access(path, os.R_OK)
    except PermissionError:
        is_folder, refused = False, True
    if is_folder:
        raise UsageError(f"{path}: is a folder, where a run has its database, a file; {ANOTHER}")
    if refused:
        raise UsageError(
            f"{path}: you may not read it: change its rights or its folder's (chmod u+rX), or read it as its owner"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a UsageError that names the file; first tell whether there is one to read."""
    check_readable(path)
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a run's database: {error}; {ANOTHER}") from None
