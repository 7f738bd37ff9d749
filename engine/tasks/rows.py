"""Lines of task files, with their places: every fault names file and line."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ..errors import UsageError
from ..weights.disguises import disguise_of
from ..weights.small_file import read_text

# The most bytes of a task, or of a file of programs or answers.
MOST_BYTES = 1 << 30
# The most characters of a line: JSON of empty lists takes 25 times its size in memory.
MOST_CHARACTERS = 16 << 20
# "FILE:LINE" of a line, and its JSON object.
Row = tuple[str, dict[str, object]]
# Control characters that are no white space, and lone surrogates.
BROKEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def rows_of(path: Path, what: str = "questions") -> Iterator[Row]:
    """Rows of a file of JSON lines.

    Lines end at \\n only, because U+2028 may be part of a text. UsageError if there are no rows, if a
    line is no JSON object (NaN and Infinity are no JSON), or if a key or an `id` is there twice.
    """
    ids: dict[str, int] = {}
    empty = True
    for number, line in enumerate(read_text(path, most_bytes=MOST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        if len(line) > MOST_CHARACTERS:
            raise UsageError(f"{place}: {len(line)} characters, at most {MOST_CHARACTERS} are read")
        row = parse(place, line, path)
        check_id(place, row, ids, number)
        empty = False
        yield place, row
    if empty:
        raise UsageError(f"{path}: holds no {what}")


def parse(place: str, line: str, path: Path) -> dict[str, object]:
    """The JSON object of a line. UsageError if it is none; it says what the file is, where that shows."""

    def constant(word: str) -> NoReturn:
        raise UsageError(f"{place}: {word} is no JSON and no answer: write a number or text")

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        keys: dict[str, object] = {}
        for key, item in found:
            if key in keys:
                raise UsageError(f"{place}: has the key {key[:60]!r} twice")
            keys[key] = item
        return keys

    try:
        row = json.loads(line, parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        if what := disguise_of(path):
            raise UsageError(f"{path}: is {what}") from None
        raise UsageError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError(f"{place}: not a JSON object")
    return row


def check_id(place: str, row: dict[str, object], ids: dict[str, int], number: int) -> None:
    """UsageError if an earlier line has the `id` of this line. A line needs no `id`."""
    if row.get("id") is None:
        return
    # 1 and "1" are one id to whoever looks them up.
    name = row["id"] if isinstance(row["id"], str) else json.dumps(row["id"])
    if name in ids:
        raise UsageError(
            f"{place}: the id {json.dumps(row['id'])[:60]} is that of line {ids[name]}, too"
        )
    ids[name] = number


def text_of(
    place: str, row: dict[str, object], key: str, may_be_empty: bool = False, is_raw: bool = False
) -> str:
    """The text under a key; a number becomes text. UsageError if it is absent, empty or no text.

    With `is_raw` a model wrote the text, so any character may be in it.
    """
    if key not in row:
        raise UsageError(f"{place}: lacks {key!r}")
    value = row[key]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise UsageError(f"{place}: {key!r} is {json.dumps(value)[:40]}, not text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{place}: {key!r} is a number that is too large")
    if not (text := str(value)).strip() and not may_be_empty:
        raise UsageError(f"{place}: {key!r} is empty")
    if not is_raw:
        check_text(place, key, text)
    return text


def check_text(place: str, key: str, text: str) -> None:
    """UsageError for lone surrogates and control characters: no tokenizer or terminal takes them."""
    if not (found := BROKEN.search(text)):
        return
    is_half = unicodedata.category(found[0]) == "Cs"
    what = "a lone surrogate, half of a character" if is_half else "a control character"
    raise UsageError(
        f"{place}: {key!r} holds {what} (U+{ord(found[0]):04X}, at character {found.start() + 1}): "
        "write the text anew"
    )
