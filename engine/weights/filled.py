"""Finds weights that were never filled in: a file is made at its full size, then a download or a copy ends.

Zeros are legitimate weights: biases, rows of a vocabulary that nobody uses, a few blocks that were switched
off. So only whole matrices count, and only many of them, or those with which a file ends.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from ..errors import UsageError
from .checkpoint import Checkpoint
from .headers import Entry, shown

PIECE_BYTES, GLANCE_BYTES = 4 << 20, 256
# Smaller matrices tell nothing: files are fetched in larger pieces.
LEAST_BYTES = 16 << 10
# A file with this share of its matrices empty was not filled in; so was one of which this share at the end
# is zeros.
MOST_EMPTY, MOST_TAIL = 1 / 4, 1 / 16
AGAIN = "a download or a copy that was not finished; fetch the file again"


def check_filled(model: Checkpoint) -> None:
    """Raise UsageError where a file of weights has room for matrices, and zeros in place of them."""
    for file in model.files:
        entries = sorted(
            (
                (e.start, name, e)
                for name, e in model.entries.items()
                if e.file == file and is_matrix(e)
            )
        )
        with file.open("rb", buffering=0) as stream:
            check_file(file, stream.fileno(), [(name, entry) for _, name, entry in entries])


def is_matrix(entry: Entry) -> bool:
    return len(entry.shape) > 1 and min(entry.shape) > 1 and entry.size_bytes >= LEAST_BYTES


def check_file(file: Path, descriptor: int, matrices: Sequence[tuple[str, Entry]]) -> None:
    """Raise UsageError for the matrices of one file, in the order of their bytes."""
    empty = [name for name, entry in matrices if is_empty(descriptor, entry)]
    tail = len(list(takewhile(lambda pair: pair[0] in empty, reversed(matrices))))
    if len(empty) > 1 and (tail > 1 or len(empty) > MOST_EMPTY * len(matrices)):
        raise UsageError(
            f"{file}: {len(empty)} of its {len(matrices)} matrices are nothing but zeros ({shown(empty[0])} "
            f"is the first): {AGAIN}"
        )
    if not matrices:
        return
    name, last = matrices[-1]
    size = sum(entry.size_bytes for _, entry in matrices)
    if (zeros := zeros_at_end(descriptor, last, math.ceil(size * MOST_TAIL))) > size * MOST_TAIL:
        part = "all" if zeros >= last.size_bytes else "the end"
        raise UsageError(f"{file}: {part} of {shown(name)}, its last matrix, is zeros: {AGAIN}")


def is_empty(descriptor: int, entry: Entry) -> bool:
    """Tell whether a tensor is all zeros. Nearly always one glance tells that it is not."""
    middle = entry.start + entry.size_bytes // 2
    if any(os.pread(descriptor, min(GLANCE_BYTES, entry.size_bytes // 2), middle)):
        return False
    starts = range(entry.start, entry.end, PIECE_BYTES)
    return not any_bytes(descriptor, ((s, min(PIECE_BYTES, entry.end - s)) for s in starts))


def any_bytes(descriptor: int, pieces: Iterable[tuple[int, int]]) -> bool:
    """Tell whether one of the pieces, each a start and a size, has a byte that is not zero."""
    return any(os.pread(descriptor, size, start).strip(b"\0") for start, size in pieces)


def zeros_at_end(descriptor: int, entry: Entry, most: int) -> int:
    """Return the bytes of zeros with which a tensor ends; counting stops where there are more than `most`."""
    found = 0
    while found <= most and found < entry.size_bytes:
        size = min(GLANCE_BYTES if not found else PIECE_BYTES, entry.size_bytes - found)
        piece = os.pread(descriptor, size, entry.end - found - size)
        rest = piece.rstrip(b"\0")
        found += size - len(rest)
        if rest:
            break
    return found
