"""Values on demand: the driver is asked for what Python wants to know of the weights.

A value question is for the *statistics at the edge* below the wanted node: small results of something
large. It also asks for every other scalar that was recorded since the last one, so that
`sorted(ws, key=torch.norm)` is one question. What lies above the edge is computed here by torch in
float32, as eager does, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bounds import MAX_ANSWER_ELEMENTS
from ..ops import run
from ..tree import found, mapped
from ..wire import unpack_tensor
from .recorder import Constant, Node, Recorder, Unsupported

LINALG_ERROR = torch.linalg.LinAlgError  # type: ignore[attr-defined]
MAX_BELOW = 16  # numbers of a statistic that is asked for because an asked one rests on it
Ask = Callable[[dict[str, Any]], dict[str, Any]]


class Values:
    """The answers so far. `ask` sends a question and waits for its answer."""

    def __init__(self, recorder: Recorder, ask: Ask) -> None:
        self.recorder, self._ask = recorder, ask
        self.known: dict[Node, Any] = {}
        self.input_sizes: set[int] = set()
        self.axis_lengths: set[int] = set()
        self._scanned = 0

    def of(self, node: Node) -> Any:
        """A node's value. One question asks for all that is missing below it."""
        if not self.is_statistic(node):
            count = node.meta.numel() if isinstance(node.meta, Tensor) else 0
            raise Unsupported(
                f"Python wants all {count} numbers of a tensor, and is told no more than "
                f"{MAX_ANSWER_ELEMENTS}, never the weights' own: use torch operations on it"
            )
        if need := self.edges([node]):
            fresh, self._scanned = self.recorder.nodes[self._scanned :], len(self.recorder.nodes)
            spare = self.edges([n for n in fresh if is_scalar(n)])
            need += [n for n in spare if n not in need and is_scalar(n)]
            self.learn(list(dict.fromkeys([*need, *self.below(need)])))
        return replay([node], self.known)[0]

    def below(self, need: Sequence[Node]) -> list[Node]:
        """The small reductions that these statistics rest on: later questions rest on them too."""
        found_below: list[Node] = []
        seen, todo = {*self.known, *need}, parents_of(need)
        while todo:
            if (node := todo.pop()) not in seen:
                seen.add(node)
                todo += parents_of([node])
                if is_reduction(node) and self.is_statistic(node) and self.is_small(node.meta):
                    found_below.append(node)
        return found_below

    def is_small(self, meta: Tensor) -> bool:
        """Tells whether it has a few numbers, and certainly none for each row or column."""
        few = meta.numel() <= MAX_BELOW and not self.axis_lengths & set(meta.shape)
        return few or meta.numel() == 1

    def learn(self, need: Sequence[Node]) -> None:
        for part in answerable_parts(need):
            question = {"nodes": self.recorder.news(), "outputs": [n.index for n in part]}
            answers = self.asked(question)["values"]
            for node, answer in zip(part, answers, strict=True):
                self.known[node] = unpack_tensor(answer)

    def asked(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question. Raises what torch raised on the real numbers."""
        answer = self._ask(question)
        if "error" in answer:
            text = answer["error"]
            # Torch's words about a matrix whose numbers it refuses.
            raise LINALG_ERROR(text) if text.startswith("linalg.") else RuntimeError(text)
        return answer

    def sizes(self, node: Node, several: bool) -> Any:
        """Meta tensors of an op whose sizes depend on values. The driver is asked."""
        answer = self.asked({"nodes": self.recorder.news(), "sizes": node.index})
        metas = [
            torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
            for shape, dtype in answer["sizes"]
        ]
        return metas if several else metas[0]

    def is_statistic(self, node: Node) -> bool:
        """Tells whether a node is small, and neither an input nor a draw."""
        metas = found(node.meta, Tensor)
        small = all(
            m.numel() <= MAX_ANSWER_ELEMENTS and m.numel() not in self.input_sizes for m in metas
        )
        return bool(metas) and small and node.op != "input" and "draw" not in node.kwargs

    def edges(self, todo: list[Node]) -> list[Node]:
        """The unknown statistics of something large on which these statistics depend."""
        need: list[Node] = []
        seen = set(self.known)
        todo = list(todo)
        while todo:
            node = todo.pop(0)
            if node in seen:
                continue
            seen.add(node)
            parents = found((node.args, node.kwargs), Node)
            if all(map(self.is_statistic, parents)):
                todo += parents
            elif isinstance(node.meta, Tensor):
                need.append(node)
            else:
                # An op with several results: each of its items is asked for by itself.
                need += [n for n in self.recorder.nodes if n.op == "item" and n.args[0] is node]
        return list(dict.fromkeys(need))


def answerable_parts(need: Sequence[Node]) -> Iterator[list[Node]]:
    """Yields groups of nodes whose numbers fit into one answer."""
    part: list[Node] = []
    room = MAX_ANSWER_ELEMENTS
    for node in need:
        if part and node.meta.numel() > room:
            yield part
            part, room = [], MAX_ANSWER_ELEMENTS
        part.append(node)
        room -= max(1, node.meta.numel())
    yield part


def parents_of(nodes: Sequence[Node]) -> list[Node]:
    return found([(node.args, node.kwargs) for node in nodes], Node)


def is_reduction(node: Node) -> bool:
    return not isinstance(node.op, str) and torch.Tag.reduction in node.op.tags


def is_scalar(node: Node) -> bool:
    return isinstance(node.meta, Tensor) and node.meta.dim() == 0


def replay(wanted: Sequence[Node], known: dict[Node, Any]) -> list[Any]:
    """Values of small nodes, computed by torch from what is in `known` and kept there."""
    todo, seen = list(wanted), set(known)
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            todo += found((node.args, node.kwargs), Node)
    for node in sorted(seen - set(known), key=lambda n: n.index):
        args = mapped(known.__getitem__, node.args, Node)
        if node.op == "const":
            constant = args[0]
            assert isinstance(constant, Constant)
            known[node] = constant.value
        elif node.op == "item":
            known[node] = args[0][args[1]]
        else:
            known[node] = run(node.op, args, mapped(known.__getitem__, node.kwargs, Node))
    return [known[node] for node in wanted]
