"""Keeps statistics of the task vectors beyond a process: a resumed run reads no weights for them.

Numbers that no program's constants enter (a norm, a dot product) are kept in the run's store. All
else stays in a bounded cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

import torch
from torch import Tensor

from ...kernels.compiler.staging import OWN
from ...kernels.tensors import Memo
from ..records.store import Store


class KeptMemo(MutableMapping[str, Tensor]):
    """One tensor's statistics by key. Only the driver has one, as a store has one writer."""

    def __init__(
        self, cache: Memo, store: Store, tensor: str, check: Callable[[], None] = lambda: None
    ) -> None:
        """`check` raises UsageError where the weights are not those that the run began with."""
        self._cache, self._store, self._tensor, self._check = cache, store, tensor, check
        self._kept = {
            key: torch.tensor(value, dtype=torch.float64)
            for key, value in store.statistics(tensor).items()
        }

    def __getitem__(self, key: str) -> Tensor:
        return self._kept[key] if key in self._kept else self._cache[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        if value.dim() or key.endswith(OWN):
            self._cache[key] = value
            return
        # A resumed run reads this again, so it must not be made of a damaged file.
        self._check()
        self._kept[key] = value
        self._store.keep_statistic(self._tensor, key, float(value))

    def __delitem__(self, key: str) -> None:
        del self._cache[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._kept
        yield from self._cache

    def __len__(self) -> int:
        return len(self._kept) + len(self._cache)
