"""Many programs as a user names them: files, folders, .jsonl of {"id", "source"}."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..given import at_home, checked, given_places, wrong
from ..records.candidate import BASE, BEST
from ..tasks.rows import check_text, rows_of, text_of
from ..weights.locate import check_utf8
from ..weights.small_file import check_inside, read_text

SUFFIXES = (".py", ".md", ".txt")
MAX_ID = 255  # characters
# A program has at most so many bytes.
MAX_BYTES = 1 << 20


@checked()
def read_programs(places: str | Path | Sequence[str | Path]) -> list[tuple[str, str]]:
    """Return [(id, text)] in the order given. One place may be given without a list around it.

    UsageError for a place that is missing or empty, and for an id that is given twice or is "base".
    """
    programs: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    for place in given_places("places", places):
        empty = True
        if "def merge_models" in place:
            raise UsageError('places: this is a program; give {"id": text}, or a file of it')
        for where, name, text in read_place(at_home(place)):
            empty = False
            check_name(where, name, seen)
            programs.append((name, text))
        if empty:
            raise UsageError(f"{place}: holds no programs")
    return programs


def given_pairs(name: str, value: Any) -> list[tuple[str, str]]:
    """Return programs as (id, text), whose types are right."""
    are_many = isinstance(value, Sequence) and not isinstance(value, str)
    if not are_many or not all(
        isinstance(pair, tuple | list) and [type(word) for word in pair] == [str, str]
        for pair in value
    ):
        raise wrong(name, "a list of (id, text), as read_programs returns it", value)
    return [(one, text) for one, text in value]


def check_programs(programs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return programs that are given as (id, text). UsageError for a wrong or repeated id, or no text."""
    seen: dict[str, str] = {}
    for number, (name, text) in enumerate(programs, 1):
        where = f"program {number}"
        if not isinstance(name, str) or not isinstance(text, str):
            raise UsageError(f"{where}: give its id and its text, both as str")
        check_name(where, name, seen)
    if not programs:
        raise UsageError("no programs are given")
    return list(programs)


def check_name(where: str, name: str, seen: dict[str, str]) -> None:
    """Remember where an id stands. UsageError if it is the base's or that of another program."""
    check_text(where, "id", name)
    if not 0 < len(name) <= MAX_ID or not name.isprintable() or name != name.strip():
        raise UsageError(
            f"{where}: an id is one line of 1 to {MAX_ID} characters that can be printed, without "
            "spaces around it"
        )
    if name == BASE:
        raise UsageError(f"{where}: program id {name!r} is the base's own id")
    if name == BEST or name.endswith(f"/{BEST}"):
        raise UsageError(
            f"{where}: program id {name!r} means the best program of a run; give it another name"
        )
    if name in seen:
        raise UsageError(f"{where}: program id {name!r} is given twice: it is that of {seen[name]}")
    seen[name] = where


def read_place(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, id, text) of one file, of a folder's files by name, or of the lines of a .jsonl.

    A place is "FILE" or "FILE:LINE". UsageError names a line that is wrong.
    """
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix in SUFFIXES:
                check_utf8(file)
                check_inside(file, path, "the link")
                yield str(file), file.stem, read_text(file, "surrogateescape", MAX_BYTES)
    elif path.suffix == ".jsonl":
        for where, row in rows_of(path, "programs"):
            source = row.get("source")
            if not isinstance(source, str):
                raise UsageError(f'{where}: not a line {{"id", "source"}}: "source" is no text')
            yield where, text_of(where, row, "id"), source
    elif path.suffix in (".yml", ".yaml"):
        raise UsageError(
            f"{path}: a configuration, not a program: `selfdev-engine merge {path} --out DIR` reads one"
        )
    else:
        check_utf8(path)
        yield str(path), path.stem, read_text(path, "surrogateescape", MAX_BYTES)
