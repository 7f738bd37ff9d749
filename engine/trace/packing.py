"""A whole graph as plain data, as the driver sends it to a worker."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import Rejected
from .arguments import packed
from .graph import TraceGraph, TraceNode
from .verify import GraphReader
from .wire import dtype_name, pack_tensor


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
    """The verified graph that `pack` packed.

    Raises ValueError, not Rejected: what the driver sends was verified before, so a fault here is a
    bug of ours and not of the program.
    """
    try:
        return read(data)
    except Rejected as refused:
        raise ValueError(str(refused)) from None


def read(data: dict[str, Any]) -> TraceGraph:
    """The graph in the data. Raises Rejected."""
    reader = GraphReader(data["names"], data["shape"])
    for raw in data["nodes"]:
        reader.extend([raw])
        index = len(reader.nodes) - 1
        # Where the reader cannot work out a size, the driver found it by asking.
        if reader.metas[index] is None and raw[3] is not None:
            dtype = getattr(torch, raw[4])
            reader.set_sizes(index, [torch.empty(raw[3], dtype=dtype, device="meta")])
    return reader.graph(data["outputs"])


def claim(node: TraceNode) -> tuple[list[int] | None, str | None]:
    return (None, None) if node.shape is None else (list(node.shape), dtype_name(node.dtype))


def pack_args(node: TraceNode) -> list[Any]:
    if node.op == "const":
        numbers, shape = node.args
        return [{"c": pack_tensor(torch.tensor(numbers, dtype=node.dtype).reshape(shape))}]
    return [packed(a) for a in node.args]
