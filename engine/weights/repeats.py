"""Finds models that are given twice: an expert that is the base, or two experts that are one model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from .checkpoint import Checkpoint
from .headers import Entry

START_BYTES = 4096
COMPARED_BYTES = 8 << 20


def repeats(models: Mapping[str, Checkpoint], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (model, earlier model) where both have the same bytes in all tensors of `names`.

    Nearly always the start of some tensor tells two models apart; else they are read to the end.
    """
    words = list(models)
    for i, later in enumerate(words):
        for earlier in words[:i]:
            pairs = [(models[later].entries[n], models[earlier].entries[n]) for n in names]
            if all(same_bytes(*pair, START_BYTES) for pair in pairs) and all(
                same_bytes(*pair) for pair in pairs
            ):
                yield later, earlier
                break


def same_bytes(one: Entry, other: Entry, most_bytes: int | None = None) -> bool:
    """Tell whether two tensors are equal bit for bit, in their first `most_bytes` bytes if given."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    size = one.size_bytes if most_bytes is None else min(most_bytes, one.size_bytes)
    with one.file.open("rb", buffering=0) as a, other.file.open("rb", buffering=0) as b:
        if os.path.sameopenfile(a.fileno(), b.fileno()) and one.start == other.start:
            return True
        for done in range(0, size, COMPARED_BYTES):
            count = min(COMPARED_BYTES, size - done)
            if os.pread(a.fileno(), count, one.start + done) != os.pread(
                b.fileno(), count, other.start + done
            ):
                return False
    return True
