"""A traced graph run by torch on whole tensors: the hybrid tier, and questions that no kernel answers.

With `wide` float32 becomes float64 throughout (the definition); explicit half and double stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...kernels import philox
from .graph import Ref, TraceGraph, TraceNode
from .ops import argument_names, aten, run

UNIFORM = {aten.rand.default, aten.rand_like.default}
NORMAL = {aten.randn.default, aten.randn_like.default}


def replay(graph: TraceGraph, inputs: Mapping[str, Tensor], wide: bool = False) -> list[Tensor]:
    """The outputs' values. `inputs` are float32 task vectors of the graph's shape, by name."""
    return Replayer(graph, inputs, wide).values(graph.outputs)


class Replayer:
    """Values by node, computed when needed and dropped after their last reader."""

    def __init__(self, graph: TraceGraph, inputs: Mapping[str, Tensor], wide: bool) -> None:
        self.graph, self.inputs = graph, inputs
        self.widen = {torch.float32: torch.float64} if wide else {}

    def values(self, outputs: Iterable[int]) -> list[Any]:
        wanted = list(outputs)
        order = self.needed(wanted)
        readers = dict.fromkeys(order, 0)
        for index in order:
            for arg in references(self.graph.nodes[index]):
                readers[arg] += 1
        for index in wanted:
            readers[index] += 1
        known: dict[int, Any] = {}
        for index in order:
            node = self.graph.nodes[index]
            known[index] = self.compute(node, known)
            for arg in references(node):
                readers[arg] -= 1
                if readers[arg] == 0:
                    del known[arg]
        return [known[index] for index in wanted]

    def needed(self, outputs: list[int]) -> list[int]:
        seen, todo = set[int](), list(outputs)
        while todo:
            if (index := todo.pop()) not in seen:
                seen.add(index)
                todo += references(self.graph.nodes[index])
        return sorted(seen)

    def compute(self, node: TraceNode, known: Mapping[int, Any]) -> Any:
        if node.op == "input":
            vector = self.inputs[node.args[0]]
            return vector.to(self.widen.get(vector.dtype, vector.dtype))
        if node.op == "const":
            numbers, shape = node.args
            assert node.dtype is not None
            dtype = self.widen.get(node.dtype, node.dtype)
            return torch.tensor(numbers, dtype=dtype).reshape(shape)
        args = [filled(a, known) for a in node.args]
        if node.op == "item":
            return args[0][args[1]]
        kwargs = {k: filled(v, known) for k, v in node.kwargs.items()}
        if "dtype" in kwargs:
            kwargs["dtype"] = self.widen.get(kwargs["dtype"], kwargs["dtype"])
        overload = overload_of(node.op)
        return draw(overload, args, kwargs) if "draw" in kwargs else run(overload, args, kwargs)


def draw(overload: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Uniform and normal numbers are Philox, as in the kernels; others torch's, seeded by the draw."""
    seed = kwargs.pop("draw")
    if overload in UNIFORM or overload in NORMAL:
        size = args[0].shape if isinstance(args[0], Tensor) else torch.Size(args[0])
        numbers = philox.uniform if overload in UNIFORM else philox.normal
        dtype = kwargs.get("dtype") or torch.float32
        return numbers(seed, 0, size.numel()).reshape(size).to(dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if "generator" in argument_names(overload):
            kwargs["generator"] = None
        return run(overload, args, kwargs)


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


def filled(x: Any, known: Mapping[int, Any]) -> Any:
    if isinstance(x, Ref):
        return known[x.index]
    return [filled(y, known) for y in x] if isinstance(x, tuple) else x


def overload_of(op: str) -> Any:
    """aten.mul.Tensor -> torch.ops.aten.mul.Tensor"""
    _, name, overload = op.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)
