"""Statistics of task vectors that were computed before, by tensor, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

from cachetools import LRUCache

from ...kernels.tensors import Memo

MEMO_BYTES = 256 << 20  # kept at most, over all tensors
VALUE_OVERHEAD_BYTES = 512


class Memos:
    """One memo a tensor, made when first asked for. `keep` may put something around a memo that
    outlives the process."""

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
        """The latest statistics of this tensor's task vectors."""
        if name not in self._memos:
            cache: Memo = LRUCache(self._share_bytes, lambda v: v.nbytes + VALUE_OVERHEAD_BYTES)
            self._memos[name] = self._keep(name, cache) if self._keep else cache
        return self._memos[name]

    def forget(self) -> None:
        """Drop all: another backend's may differ in the last bit."""
        self._memos.clear()
