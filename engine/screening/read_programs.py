"""Reads programs as a user names them: files, folders, or .jsonl lines of {"id", "source"}."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UsageError

SUFFIXES = (".py", ".md", ".txt")


def read_programs(places: Sequence[str]) -> list[tuple[str, str]]:
    """Return [(id, text)] in the order given.

    UsageError for a place that is missing or empty, and for an id that is given twice or is "base".
    """
    programs: list[tuple[str, str]] = []
    for place in places:
        found = list(read_place(Path(place)))
        if not found:
            raise UsageError(f"{place}: holds no programs")
        programs += found
    seen: set[str] = set()
    for name, _ in programs:
        if name in seen or name == "base":
            why = "is the base's own id" if name == "base" else "is given twice"
            raise UsageError(f"program id {name!r} {why}")
        seen.add(name)
    return programs


def read_place(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of one file, of a folder's files by name, or of the lines of a .jsonl."""
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix in SUFFIXES:
                yield file.stem, read_text(file)
    elif path.suffix == ".jsonl":
        yield from read_lines(path)
    else:
        yield path.stem, read_text(path)


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of each line of a .jsonl. UsageError names the line that is wrong."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield str(row["id"]), str(row["source"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f'{path}:{number}: not a line {{"id", "source"}}: {error}') from None


def read_text(path: Path) -> str:
    """Return a file's text; bytes that are no UTF-8 become surrogates. UsageError if unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
