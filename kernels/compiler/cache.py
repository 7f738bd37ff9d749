"""Keeps what was made of graphs, within a number of nodes: a graph may be thousands of times another."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cachetools import LRUCache

from ..ir import KernelGraph

P = ParamSpec("P")
T = TypeVar("T")
Made = Callable[Concatenate[KernelGraph, P], T]
# The nodes of all graphs that one function's results are kept for. A node takes about 200 bytes.
MOST_NODES = 100_000


def one_graph(graph: KernelGraph, made: object) -> int:
    return len(graph.nodes)


class Keeper(Protocol):
    """A decorator of a function of a graph."""

    def __call__(self, make: Made[P, T], /) -> Made[P, T]: ...


_all: list[LRUCache[object, tuple[object, int]]] = []


def forget_all() -> None:
    """Forget what every function made; a benchmark of new programs begins so."""
    for found in _all:
        found.clear()


def kept(weigh: Callable[[KernelGraph, Any], int] = one_graph, most: int = MOST_NODES) -> Keeper:
    """Keep a function's results, those used last, while they weigh at most `most` nodes together.

    The function takes a graph and other hashable arguments. `weigh` gives the nodes of a
    result and its graph; what alone is too heavy is not kept.
    """

    def wrapped(make: Made[P, T]) -> Made[P, T]:
        found: LRUCache[object, tuple[T, int]] = LRUCache(most, lambda item: item[1])
        _all.append(found)  # type: ignore[arg-type]
        lock = Lock()

        @wraps(make)
        def make_or_recall(graph: KernelGraph, *args: P.args, **kwargs: P.kwargs) -> T:
            key = graph, args, tuple(kwargs.items())
            with lock:
                if (known := found.get(key)) is not None:
                    return known[0]
            made = make(graph, *args, **kwargs)
            weight = max(1, weigh(graph, made))
            if weight <= most:
                with lock:
                    found[key] = made, weight
            return made

        return make_or_recall

    return wrapped
