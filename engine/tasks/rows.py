"""Reads lines of task files. Every error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

# "FILE:LINE" of a line, and its JSON object.
Row = tuple[str, dict[str, object]]


def read(path: Path) -> str:
    """Text of a file. UsageError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def rows_of(path: Path, what: str = "questions") -> Iterator[Row]:
    """Rows of a file of JSON lines. UsageError if there are none.

    Lines end at \\n only, because U+2028 may be part of a text.
    """
    empty = True
    for number, line in enumerate(read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}:{number}: not a JSON object")
        empty = False
        yield f"{path}:{number}", row
    if empty:
        raise UsageError(f"{path}: holds no {what}")


def text_of(place: str, row: dict[str, object], key: str, may_be_empty: bool = False) -> str:
    """The text under a key; a number becomes text. UsageError if it is absent or empty."""
    if key not in row:
        raise UsageError(f"{place}: lacks {key!r}")
    value = row[key]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise UsageError(f"{place}: {key!r} is {json.dumps(value)[:40]}, not text or a number")
    if not (text := str(value)).strip() and not may_be_empty:
        raise UsageError(f"{place}: {key!r} is empty")
    return text
