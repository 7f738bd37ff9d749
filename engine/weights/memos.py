"""Remembers computed statistics of task vectors, by tensor, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

from cachetools import LRUCache

from ...kernels.tensors import Memo

# The statistics of all tensors together take at most this.
MEMO_BYTES = 256 << 20
# Each value counts this much beside its own bytes.
VALUE_OVERHEAD_BYTES = 512


class Memos:
    """Gives each tensor its memo, made when it is first asked for.

    The tensors share `most_bytes` equally. `keep` may wrap a memo in one that outlives the process.
    """

    def __init__(
        self,
        num_tensors: int,
        most_bytes: int = MEMO_BYTES,
        keep: Callable[[str, Memo], Memo] | None = None,
    ) -> None:
        self._share_bytes = most_bytes // num_tensors
        self._keep = keep
        self._memos: dict[str, Memo] = {}

    def of(self, name: str) -> Memo:
        """Return the memo of this tensor: statistics of its task vectors, the latest ones."""
        if name not in self._memos:
            cache: Memo = LRUCache(self._share_bytes, lambda v: v.nbytes + VALUE_OVERHEAD_BYTES)
            self._memos[name] = self._keep(name, cache) if self._keep else cache
        return self._memos[name]

    def forget(self) -> None:
        """Drop all memos: another backend's statistics may differ in the last bit."""
        self._memos.clear()
