"""Guards the place of a run: whose the folder is, who writes there, and what a new run replaces.

A folder is a run where it holds the lock file, which this program made, or a run.db with our tables.
"""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import UsageError
from ..output.claim import one_writer
from ..output.folder import check_apart, real
from ..output.owned import (
    ASIDE,
    DATABASE,
    RUN_LOCK,
    check_not_inside,
    check_place_for,
    foreign_in_run,
)
from ..records.database import connect_to_read
from ..weights.checkpoint import Checkpoint

LOCK = RUN_LOCK
TABLES = ("candidates", "scores", "settings")


@contextmanager
def naming_run(folder: Path) -> Iterator[None]:
    """Turn an OSError into a UsageError that names the run."""
    try:
        yield
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        why = f"{error.strerror or error}{file}"
        raise UsageError(f"--run {folder}: cannot be written: {why}") from None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the one writer of the folder. UsageError where it is another's, or in use."""
    check_ours(folder)
    put_back(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder / LOCK, f"--run {folder}", keep=True):
        yield


def check_ours(folder: Path) -> None:
    """UsageError unless the folder is absent, empty, or a run."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--run {folder}: is a file; a run is a folder")
    if not folder.exists() or not any(folder.iterdir()):
        check_not_inside(f"--run {folder}", folder)
    elif not is_run(folder):
        raise UsageError(
            f"--run {folder}: holds files, but no run ({DATABASE}): it is not replaced or added to; "
            "name another folder"
        )


def check_replaceable(folder: Path) -> None:
    """UsageError where a run cannot be deleted for a new one, since more than the run is in its folder."""
    check_place_for(f"--run {folder}", folder)
    if strange := foreign_in_run(folder):
        raise UsageError(
            f"--run {folder}: holds {strange}, so it is not replaced: move that away, or name another "
            "folder"
        )


def is_run(folder: Path) -> bool:
    if (folder / LOCK).is_file():
        return True
    try:
        with closing(connect_to_read(folder / DATABASE)) as db:
            found = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    except (sqlite3.Error, UsageError):
        return False
    return found.issuperset(TABLES)


def check_inputs_apart(folder: Path, inputs: Mapping[str, Path]) -> None:
    """UsageError where a file that is read lies inside the run's folder."""
    for what, path in inputs.items():
        check_apart(f"--run {folder}", real(folder), what, real(path))


def model_places(base: str, experts: Mapping[str, str]) -> dict[str, Path]:
    """Return the folders of models, by words for what each model is."""
    places = {"the base": base, **{f"expert {name}": place for name, place in experts.items()}}
    return {what: Checkpoint.open(place).folder for what, place in places.items()}


# ---- an old run that is replaced


def asides(folder: Path) -> list[Path]:
    """Return the old runs that were set aside for a new one in this folder."""
    return sorted(folder.parent.glob(f".{glob.escape(folder.name)}{ASIDE}*"))


def put_back(folder: Path) -> None:
    """Put an old run back where the one that replaced it was killed before it had begun."""
    for old in asides(folder)[:1] if not folder.exists() else []:
        with one_writer(old / LOCK, f"--run {folder}", keep=True):
            old.rename(folder)


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Put an empty folder in place of an old run. The old run comes back if nothing begins in it."""
    old = folder.with_name(f".{folder.name}{ASIDE}{os.getpid()}")
    folder.rename(old)
    folder.mkdir()
    try:
        with one_writer(folder / LOCK, f"--run {folder}", keep=True):
            yield
    except BaseException:
        if old.exists():
            shutil.rmtree(folder, ignore_errors=True)
            old.rename(folder)
        raise


def forget_old(folder: Path) -> None:
    """Delete what was set aside: the new run has begun."""
    for old in asides(folder):
        shutil.rmtree(old, ignore_errors=True)
