"""Finds run folders, and says what each one is at a glance. Nothing here loads torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, did_you_mean
from ..engine.output.claim import is_held
from ..engine.records.candidate import BASE
from ..engine.records.store import Store
from ..engine.screening.folder import NAME, NOTE, command_of, flat, read_config
from ..engine.screening.place import DATABASE, LOCK
from .stored import result_of

# Where `run` puts runs that are given no folder, and the word for the newest of them.
RUNS, LAST = Path("runs"), "last"


def find_run(place: Path) -> Path:
    """Return the run folder that is meant; `last` is the newest one in ./runs.

    UsageError where there is none, with the run whose name is most like the word.
    """
    there = may_be_run(place)
    if str(place) == LAST:
        if there:
            raise UsageError(
                f"{LAST} fits twice: the folder ./{LAST} and the newest run of {RUNS}; "
                f"write ./{LAST}/ with another name, or the path of the run"
            )
        return newest_run()
    if not there:
        near = did_you_mean(str(place), map(str, run_folders(RUNS)))
        raise UsageError(f"{place}: not a run folder (it holds no {DATABASE}){near}")
    return place


def newest_run() -> Path:
    """Return the run of ./runs that was written to last. UsageError where there is none."""
    if not (found := run_folders(RUNS)):
        raise UsageError(f"{LAST}: there is no run in {RUNS.absolute()}; name the run's folder")
    return found[0]


def run_folders(folder: Path) -> list[Path]:
    """Return the runs in a folder, the newest first: the folder itself, or those directly in it."""
    if may_be_run(folder):
        return [folder]
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    runs = [path for path in found if may_be_run(path)]
    return sorted(runs, key=lambda path: (-written_at(path), path.name))


def may_be_run(folder: Path) -> bool:
    """Tell whether a folder holds a run, or something in its place, or does not let itself be read."""
    try:
        return (folder / DATABASE).exists()
    except PermissionError:
        return True


def files_of(run: Path) -> list[Path]:
    """Return the files that a run's database is in: with the log of one who writes to it."""
    log = run / f"{DATABASE}-wal"
    # SQLite leaves an empty log where a database was only read.
    return [run / DATABASE, *([log] if log.exists() and log.stat().st_size else [])]


def written_at(run: Path) -> float:
    """Return when a run was written to last, in seconds since 1970; 0 where that cannot be read."""
    try:
        return max(file.stat().st_mtime for file in files_of(run))
    except PermissionError:
        return 0.0


@contextmanager
def keeping_time(run: Path) -> Iterator[None]:
    """Leave the time of a run as it was: `last` is the one that was worked on last, and this writes a note into it."""
    before = max(file.stat().st_mtime_ns for file in files_of(run))
    yield
    os.utime(run / DATABASE, ns=(before, before))


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the facts of each run in a folder, the newest first; `error` says what is wrong with one.

    UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; `ls DIR` lists the runs in DIR")
    return [facts_or_error(run) for run in run_folders(folder)]


def facts_or_error(run: Path) -> dict[str, Any]:
    try:
        with Store.read(run / DATABASE) as store:
            return run_facts(store, run, read_config(run))
    except (UsageError, OSError) as error:
        return {"run": str(run), "error": str(error)}


def run_facts(store: Store, run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run is and how far it came: {"run", "name", "status", "best", ...}."""
    counts = store.counts()
    best = store.best()
    return {
        "run": str(run),
        "name": store.setting(NAME, "text"),
        "note": store.setting(NOTE, "text"),
        "command": (kind := command_of(config)),
        "task": config.get("task"),
        "status": status_of(store, run, kind, counts),
        "written": datetime.fromtimestamp(written_at(run), UTC).isoformat(timespec="seconds"),
        "candidates": sum(counts.values()),
        "counts": counts,
        "base": score_json(store, BASE),
        "best": {"id": best, **(score_json(store, best) or {})} if best else None,
    }


def status_of(store: Store, run: Path, command: str, counts: Mapping[str, int]) -> str:
    """Return "done"; else "running" where a process writes to the run now, or "unfinished"."""
    if is_done(store, command, counts):
        return "done"
    return "running" if is_held(run / LOCK) else "unfinished"


def is_done(store: Store, command: str, counts: Mapping[str, int]) -> bool:
    """Whether nothing is left to do: a loop has its result, a screening decided all its programs."""
    if command == "run":
        return result_of(store) is not None
    return store.score(BASE) is not None and "open" not in counts


def score_json(store: Store, name: str, split: str = "dev") -> dict[str, Any] | None:
    score = store.score(name, split)
    return score.to_json() if score else None


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{"what", "first", "second"}] for each setting that differs; null where it is not set."""
    one, other = flat(first), flat(second)
    return [
        {"what": key, "first": one.get(key), "second": other.get(key)}
        for key in dict.fromkeys((*one, *other))
        if json.dumps(one.get(key), default=str) != json.dumps(other.get(key), default=str)
    ]
