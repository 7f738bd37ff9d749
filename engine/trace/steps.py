"""Keeps what was verified of a child's messages, because a program says nearly the same of each tensor of a shape.

What a message adds to a graph follows from the inputs, from all that was said before, and from the message, but
for the floats that only its arithmetic reads: of such a float only the type matters (meta_memo.py). So a step is
named by a digest of all of that without these floats, and they are taken from each message anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cachetools import LRUCache

from .bounds import Budget
from .graph import TraceGraph, TraceNode
from .meta_memo import ANY_FLOAT

MOST_BYTES = 8 << 20  # all kept messages together, with what their nodes and graphs take beside
MOST_MESSAGE_BYTES = 64 << 10
NODE_BYTES = 8  # a reference to a node in a graph
MOST_GRAPHS = 4  # kept for one step
# In the JSON that Python writes, these bytes are nothing but such an object: strings have their quotes escaped.
FLOAT = re.compile(r'\{"f": "(-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4})"\}')


@dataclass(frozen=True, eq=False)
class Step:
    """What one message added to a graph, verified.

    `places` has for each of its floats the node and the argument where another float may stand, or None where
    it must be the same. `budget` is what the trace had used then. Where no float may differ so far, the
    graphs that were asked about are kept too.
    """

    name: bytes
    floats: tuple[str, ...]
    places: tuple[tuple[int, int] | None, ...]
    nodes: tuple[TraceNode, ...]
    metas: tuple[Any, ...]
    budget: Budget
    is_constant: bool
    num_bytes: int
    graphs: dict[tuple[int, ...], TraceGraph] = field(default_factory=dict)

    def fits(self, floats: tuple[str, ...]) -> bool:
        """Tell whether a message with these floats adds the same, but for those that may differ."""
        both = zip(self.floats, floats, self.places, strict=True)
        return all(place or mine == other for mine, other, place in both)

    def nodes_with(self, floats: tuple[str, ...]) -> Sequence[TraceNode]:
        """Return the nodes with these floats. Raises OverflowError for one that is too large."""
        nodes = list(self.nodes)
        for place, text in zip(self.places, floats, strict=True):
            if place is not None:
                at, argument = place
                args = list(nodes[at].args)
                args[argument] = float.fromhex(text)
                nodes[at] = replace(nodes[at], args=tuple(args))
        return nodes


_known: LRUCache[bytes, Step] = LRUCache(MOST_BYTES, lambda step: step.num_bytes)


class Steps:
    """The steps of one reader: where it is, and what the message is that it reads."""

    def __init__(self, *about: object) -> None:
        """`about` is all that decides what a message means, beside the messages before it."""
        # None where what was said is not kept.
        self._name: bytes | None = name_of(*about)
        self._step: Step | None = None
        self._is_constant = True
        self._digest, self._floats, self._num_bytes = b"", (), 0

    def again(self, raw: list[Any]) -> tuple[Sequence[TraceNode], Sequence[Any], Budget] | None:
        """Return the nodes of a message, their metas and the budget, where they were verified before."""
        if self._name is None or (text := text_of(raw)) is None:
            self._name = None
            return None
        said, *rest = FLOAT.split(text)
        self._floats, self._num_bytes = tuple(rest[::2]), len(text)
        # No JSON of Python's has a control character.
        said = "\0".join((said, *rest[1::2])).encode()
        self._digest = hashlib.sha256(self._name + said).digest()
        step = _known.get(self._digest)
        if step is None or not step.fits(self._floats):
            return None
        try:
            nodes = step.nodes_with(self._floats)
        except OverflowError:
            return None
        self._go_to(step)
        return nodes, step.metas, replace(step.budget)

    def keep(
        self, raw: list[Any], nodes: list[TraceNode], metas: list[Any], budget: Budget
    ) -> None:
        """Keep what the message added that `again` did not know: the last of all nodes and metas."""
        if self._name is None:
            return
        found, start = list(floats_of(raw)), len(nodes) - len(raw)
        places, fresh = tuple(place for _, place in found), tuple(metas[start:])
        # A size that is not known yet follows from the weights.
        if tuple(text for text, _ in found) != self._floats or any(m is None for m in fresh):
            return self._go_to(None)
        step = Step(
            name_of(self._digest, [text for text, place in found if place is None]),
            *(self._floats, places, tuple(nodes[start:]), fresh, replace(budget)),
            self._is_constant and not any(places),
            self._num_bytes + NODE_BYTES * (1 + MOST_GRAPHS) * (len(nodes) + 64),
        )
        if step.num_bytes <= MOST_BYTES:
            _known[self._digest] = step
        self._go_to(step)

    def _go_to(self, step: Step | None) -> None:
        self._step, self._name = step, step and step.name
        self._is_constant = step is not None and step.is_constant

    @property
    def is_plain(self) -> bool:
        """Tell whether all was kept, and no float of it may differ."""
        return self._step is not None and self._is_constant

    def graph(self, outputs: tuple[int, ...], make: Callable[[], TraceGraph]) -> TraceGraph:
        """Return the graph that `make` makes of all nodes, kept where no float may differ."""
        if self._step is None or not self._is_constant:
            return make()
        graphs = self._step.graphs
        if outputs not in graphs:
            if len(graphs) == MOST_GRAPHS:
                return make()
            graphs[outputs] = make()
        return graphs[outputs]


def name_of(*about: object) -> bytes:
    """Return a name for what must be equal."""
    return hashlib.sha256(repr(about).encode()).digest()


def text_of(raw: list[Any]) -> str | None:
    """Return a message as JSON, or None where it is too long or too deep to be kept."""
    try:
        text = json.dumps(raw)
    except RecursionError:
        return None
    return text if len(text) <= MOST_MESSAGE_BYTES else None


def floats_of(raw: list[Any]) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """Yield each float of a message in order, and its place where only its type matters."""
    for at, (op, args, kwargs, *_) in enumerate(raw):
        is_free = "".join(op.split(".")[1:2]) in ANY_FLOAT
        for argument, x in enumerate(args):
            place = (at, argument) if is_free and isinstance(x, dict) else None
            yield from ((text, place) for text in texts_in(x))
        for x in (kwargs or {}).values():
            yield from ((text, None) for text in texts_in(x))


def texts_in(x: Any) -> Iterator[str]:
    """Yield the digits of each float in an argument."""
    if isinstance(x, list):
        for y in x:
            yield from texts_in(y)
    elif (
        isinstance(x, dict)
        and isinstance(text := x.get("f"), str)
        and FLOAT.fullmatch(json.dumps(x))
    ):
        yield text
