"""Finds models that are given twice: an expert that is the base, or two experts that are one model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from .checkpoint import Checkpoint
from .headers import Entry

# What is compared of a tensor: so many places of it, its first and last bytes among them.
NUM_PLACES, PLACE_BYTES = 9, 4096
COMPARED_BYTES = 8 << 20


def repeats(models: Mapping[str, Checkpoint], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (model, earlier model) where both have the same bytes in all tensors of `names`.

    Some places of each tensor are read, so that this takes no time with large models. Nearly always
    the first tensor tells two models apart.
    """
    words = list(models)
    for i, later in enumerate(words):
        for earlier in words[:i]:
            pairs = ((models[later].entries[n], models[earlier].entries[n]) for n in names)
            if all(alike(*pair) for pair in pairs):
                yield later, earlier
                break


def alike(one: Entry, other: Entry) -> bool:
    """Tell whether two tensors are equal in all the places that are compared."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    last = max(0, one.size_bytes - PLACE_BYTES)
    places = sorted({last * i // (NUM_PLACES - 1) for i in range(NUM_PLACES)})
    return same_bytes(one, other, places, min(PLACE_BYTES, one.size_bytes))


def same_whole(one: Entry, other: Entry) -> bool:
    """Tell whether two tensors of one size are equal bit for bit."""
    return same_bytes(one, other, range(0, one.size_bytes, COMPARED_BYTES), COMPARED_BYTES)


def same_bytes(one: Entry, other: Entry, places: Sequence[int], count: int) -> bool:
    """Tell whether `count` bytes, or those up to the tensor's end, are equal at each of the places."""
    with one.file.open("rb", buffering=0) as a, other.file.open("rb", buffering=0) as b:
        for place in places:
            size = min(count, one.size_bytes - place)
            if os.pread(a.fileno(), size, one.start + place) != os.pread(
                b.fileno(), size, other.start + place
            ):
                return False
    return True
