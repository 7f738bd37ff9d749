"""Packs and parses the arguments of a graph's nodes, as plain data."""

from __future__ import annotations

from typing import Any

import torch

from .graph import Ref, TraceGraph, TraceNode
from .verify import GraphReader, name_of
from .wire import pack_tensor

# ---- graphs as data, for workers ---------------------------------------------------------------------


def pack(graph: TraceGraph) -> dict[str, Any]:
    """A graph as JSON data; `parse` verifies it again."""
    nodes = [
        [n.op, pack_args(n), {k: packed(v) for k, v in n.kwargs.items()}, *claim(n)]
        for n in graph.nodes
    ]
    return {
        "names": list(graph.names),
        "shape": list(graph.shape),
        "nodes": nodes,
        "outputs": list(graph.outputs),
    }


def parse(data: dict[str, Any]) -> TraceGraph:
    """The verified graph that `pack` packed. Raises GraphFault."""
    reader = GraphReader(data["names"], data["shape"])
    for raw in data["nodes"]:
        reader.extend([raw])
        index = len(reader.nodes) - 1
        if reader.metas[index] is None and raw[3] is not None:  # the engine's own size
            dtype = getattr(torch, raw[4])
            reader.set_sizes(index, [torch.empty(raw[3], dtype=dtype, device="meta")])
    return reader.graph(data["outputs"])


def claim(node: TraceNode) -> tuple[list[int] | None, str | None]:
    return (None, None) if node.shape is None else (list(node.shape), name_of(node.dtype))


def pack_args(node: TraceNode) -> list[Any]:
    if node.op == "const":
        numbers, shape = node.args
        return [{"c": pack_tensor(torch.tensor(numbers, dtype=node.dtype).reshape(shape))}]
    return [packed(a) for a in node.args]


def packed(x: Any) -> Any:
    if isinstance(x, Ref):
        return {"n": x.index}
    if isinstance(x, float):
        return {"f": x.hex()}
    if isinstance(x, complex):
        return {"z": [x.real.hex(), x.imag.hex()]}
    if isinstance(x, torch.dtype):
        return {"t": name_of(x)}
    return [packed(y) for y in x] if isinstance(x, tuple) else x
