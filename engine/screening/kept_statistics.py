"""Keeps statistics of the task vectors beyond a process: a resumed run reads no weights for them.

What other programs may ask for too is kept in the run's store: numbers that no program's constants
enter, and that are no long expressions (a norm, a dot product). Of those each tensor keeps the ones
that were used last. All else stays in a bounded cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping

import torch
from torch import Tensor

from ...kernels.compiler.staging import LONG, OWN
from ...kernels.execution.moments import PREFIX
from ...kernels.tensors import Memo
from ..records.store import Store

MOST_KEPT = 256  # statistics of one tensor, beside its moments


class KeptMemo(MutableMapping[str, Tensor]):
    """One tensor's statistics by key. Only the driver has one, as a store has one writer."""

    def __init__(
        self, cache: Memo, store: Store, tensor: str, check: Callable[[], None] = lambda: None
    ) -> None:
        """`check` raises UsageError where the weights are not those that the run began with."""
        self._cache, self._store, self._tensor, self._check = cache, store, tensor, check
        # In the order of use, the longest unused one first.
        self._kept = OrderedDict(
            (key, torch.tensor(value, dtype=torch.float64))
            for key, value in store.statistics(tensor).items()
        )
        self._drop_oldest()

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._kept:
            return self._cache[key]
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        if value.dim() or key.endswith((OWN, LONG)):
            self._cache[key] = value
            return
        # A resumed run reads this again, so it must not be made of a damaged file.
        self._check()
        self._kept[key] = value
        self._store.keep_statistic(self._tensor, key, float(value))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Forget what is over the quota: a program that wants it reads the weights again."""
        counted = [key for key in self._kept if not key.startswith(PREFIX)]
        for key in counted[: max(0, len(counted) - MOST_KEPT)]:
            del self._kept[key]
            self._store.drop_statistic(self._tensor, key)

    def __delitem__(self, key: str) -> None:
        del self._cache[key]

    def __iter__(self) -> Iterator[str]:
        yield from list(self._kept)
        yield from self._cache

    def __len__(self) -> int:
        return len(self._kept) + len(self._cache)
