"""A whole graph as plain data, as the driver sends it to a locked child."""

from __future__ import annotations

from typing import Any

import torch

from .arguments import packed, unpacked
from .bounds import MAX_NODES
from .graph import TraceGraph, TraceNode
from .wire import dtype_name, pack_tensor


def pack(graph: TraceGraph) -> dict[str, Any]:
    """A graph as JSON data, for `parse`. Nodes that its outputs do not need are None."""
    nodes: list[Any] = [None] * len(graph.nodes)
    for index in graph.needed(graph.outputs):
        n = graph.nodes[index]
        kwargs = {k: packed(v) for k, v in n.kwargs.items()}
        nodes[index] = [n.op, pack_args(n), kwargs, *claim(n)]
    return {
        "names": list(graph.names),
        "shape": list(graph.shape),
        "nodes": nodes,
        "outputs": list(graph.outputs),
    }


def parse(data: dict[str, Any]) -> TraceGraph:
    """The graph that `pack` packed. It is not verified again: whoever reads it trusts the driver."""
    nodes = [TraceNode("left out") if raw is None else node_of(raw) for raw in data["nodes"]]
    return TraceGraph(
        tuple(data["names"]), tuple(data["shape"]), tuple(nodes), tuple(data["outputs"])
    )


def node_of(raw: list[Any]) -> TraceNode:
    op, args, kwargs, shape, dtype = raw
    args, kwargs = unpacked(args, MAX_NODES), unpacked(kwargs, MAX_NODES)
    if op == "const":
        args = (tuple(args[0].flatten().tolist()), tuple(args[0].shape))
    if shape is None:
        return TraceNode(op, args, kwargs)
    return TraceNode(op, args, kwargs, tuple(shape), getattr(torch, dtype))


def claim(node: TraceNode) -> tuple[list[int] | None, str | None]:
    return (None, None) if node.shape is None else (list(node.shape), dtype_name(node.dtype))


def pack_args(node: TraceNode) -> list[Any]:
    if node.op == "const":
        numbers, shape = node.args
        return [{"c": pack_tensor(torch.tensor(numbers, dtype=node.dtype).reshape(shape))}]
    return [packed(a) for a in node.args]
