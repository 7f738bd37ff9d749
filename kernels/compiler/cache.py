"""Keeps what was made of graphs, within a number of nodes: a graph may be thousands of times another."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from threading import Lock
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from cachetools import LRUCache

from ..ir import KernelGraph, exact

P = ParamSpec("P")
T = TypeVar("T")
# The nodes of all graphs that one function's results are kept for. A node takes about 200 bytes.
MOST_NODES = 100_000


class Kept(Generic[P, T]):
    """A function of a graph, whose results are kept: those used last, within `most` nodes."""

    def __init__(
        self,
        make: Callable[Concatenate[KernelGraph, P], T],
        weigh: Callable[[KernelGraph, Any], int],
        most: int,
    ) -> None:
        update_wrapper(self, make)
        self._make, self._weigh = make, weigh
        self.misses = 0  # how often the function was called
        self._found: LRUCache[object, tuple[T, int]] = LRUCache(most, lambda item: item[1])
        self._lock = Lock()

    def __call__(self, graph: KernelGraph, *args: P.args, **kwargs: P.kwargs) -> T:
        key = graph, exact(args), exact(tuple(kwargs.items()))
        with self._lock:
            if (known := self._found.get(key)) is not None:
                return known[0]
            self.misses += 1
        made = self._make(graph, *args, **kwargs)
        weight = max(1, self._weigh(graph, made))
        if weight <= self._found.maxsize:
            with self._lock:
                self._found[key] = made, weight
        return made

    def cache_clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._found.clear()
            self.misses = 0


def one_graph(graph: KernelGraph, made: object) -> int:
    return len(graph.nodes)


def kept(
    weigh: Callable[[KernelGraph, Any], int] = one_graph, most: int = MOST_NODES
) -> Callable[[Callable[Concatenate[KernelGraph, P], T]], Kept[P, T]]:
    """Keep a function's results. It takes a graph and other hashable arguments, compared exactly.

    `weigh` gives the nodes of a graph and its result; what alone is too heavy is not kept.
    """
    return lambda make: Kept(make, weigh, most)
