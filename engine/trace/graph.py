"""A traced program as data: functional ATen ops on the task vectors of one tensor.

It crosses the trust boundary as bounded JSON. `replay` runs it on whole tensors (the hybrid tier),
and `engine/lower` turns it into a graph of fused kernels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ...kernels.tensors import matrix_of


@dataclass(frozen=True)
class Ref:
    """An argument that is the value of an earlier node."""

    index: int


@dataclass(frozen=True)
class TraceNode:
    """One value. `op` is "input", "const", "item" or an overload: "aten.mul.Tensor".

    input: args (name,)                     the expert's task vector, float32
    const: args (numbers, shape)            numbers is a flat tuple, of `dtype`
    item:  args (Ref, i)                    i-th result of an op with several results
    else:  args and kwargs of the overload. Tensors are Refs; all else is None, bool, int, float,
           complex, str, torch.dtype or tuples of these. A random draw has kwargs["draw"]: int.
    shape and dtype are None for an op with several results.
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class TraceGraph:
    """Nodes in order, each after its arguments. `outputs` are indices of the wanted values.

    A traced program has one output, of the input's shape; a value question may have several. Where a
    program is given a tensor of several axes as a vector, `own` is the tensor's own shape.
    """

    names: tuple[str, ...]  # the experts, in the order given
    shape: tuple[int, ...]  # the shape of every input
    nodes: tuple[TraceNode, ...]
    outputs: tuple[int, ...]
    own: tuple[int, ...] | None = None  # None means `shape`

    @property
    def view(self) -> str:
        """The view "own", or "flat" where the inputs are vectors and the tensor is not."""
        return "own" if self.own in (None, self.shape) else "flat"

    @property
    def matrix(self) -> tuple[int, int]:
        """The matrix (R, C) as which kernels see the tensor, whatever the program sees."""
        return matrix_of(self.shape if self.own is None else self.own)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recorded nodes, 16 hex digits."""
        text = repr((self.names, self.shape, self.nodes, self.outputs))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def question_fingerprint(self) -> str:
        """SHA-256 of what the outputs need, as hex digits: equal where the numbers are the same function."""
        nodes = [(index, self.nodes[index]) for index in self.needed(self.outputs)]
        # A flat place is another row and column in a tensor of another shape.
        text = repr((self.names, self.shape, self.matrix, nodes, self.outputs))
        return hashlib.sha256(text.encode()).hexdigest()

    def needed(self, outputs: Iterable[int]) -> list[int]:
        """Indices of the nodes that these outputs need, themselves included, ascending."""
        seen, todo = set[int](), list(outputs)
        while todo:
            if (index := todo.pop()) not in seen:
                seen.add(index)
                todo += references(self.nodes[index])
        return sorted(seen)

    def with_keys(self, keys: Mapping[int, int]) -> TraceGraph:
        """The same graph with other keys for its random draws. `keys` maps old keys to new ones."""

        def rekeyed(node: TraceNode) -> TraceNode:
            if "draw" not in node.kwargs:
                return node
            return replace(node, kwargs={**node.kwargs, "draw": keys[node.kwargs["draw"]]})

        return replace(self, nodes=tuple(map(rekeyed, self.nodes)))


def references(node: TraceNode) -> list[int]:
    """Indices of the nodes that a node reads, each once."""
    found: list[int] = []

    def collect(x: Any) -> None:
        if isinstance(x, Ref):
            found.append(x.index)
        elif isinstance(x, (tuple, list)) and node.op != "const":
            for y in x:
                collect(y)

    for x in (*node.args, *node.kwargs.values()):
        collect(x)
    return list(dict.fromkeys(found))
