"""The digest of kernels/digest.py by the C++ extension: of memory, and of bytes that come in pieces."""

from __future__ import annotations

from typing import final

import numpy as np

from ..digest import CHUNK_BYTES, TOTALS, digits
from .extension import load_extension


def memory_digest(address: int, num_bytes: int, num_threads: int = 1) -> str:
    """Return the digest of the bytes that begin at an address, which the caller keeps alive."""
    return digits(load_extension().digest(address, num_bytes, 0, num_threads))


@final
class Digest:
    """Takes bytes in pieces of any size. Equal to the digest of all of them together."""

    def __init__(self) -> None:
        self._digest = load_extension().digest
        self._totals = [0] * TOTALS
        self._num_chunks = 0
        # What follows the last whole chunk: less than a chunk.
        self._rest = bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add the next piece."""
        view = memoryview(data)
        if self._rest:
            missing = CHUNK_BYTES - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) == CHUNK_BYTES:
                self._add(memoryview(self._rest))
                self._rest = bytearray()
        whole = len(view) // CHUNK_BYTES * CHUNK_BYTES
        self._add(view[:whole])
        self._rest += view[whole:]

    def hexdigest(self) -> str:
        """Return the digest of all pieces so far, as 32 hex digits."""
        return digits(self._with(memoryview(self._rest)))

    def _add(self, view: memoryview) -> None:
        self._totals = self._with(view)
        self._num_chunks += len(view) // CHUNK_BYTES

    def _with(self, view: memoryview) -> list[int]:
        """Return the totals with this piece added, which begins a chunk."""
        if not view:
            return self._totals
        address = np.frombuffer(view, np.uint8).ctypes.data
        found = self._digest(address, len(view), self._num_chunks, 1)
        return [total + more for total, more in zip(self._totals, found, strict=True)]
