"""Cuts graphs into what outputs need, and outputs into groups that share a pass."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from ..ir import Builder, KernelGraph, Node, Op


def subgraph(graph: KernelGraph, outputs: tuple[int, ...], slot: Mapping[int, int]) -> KernelGraph:
    """Return a graph of what the outputs need. A node that has a slot becomes a PARAM leaf."""
    builder, new = Builder(), dict[int, int]()
    for index in needs(graph, outputs, slot):
        node = graph.nodes[index]
        if index in slot:
            new[index] = builder.add(Op.PARAM, attrs=(slot[index],), space=node.space)
        else:
            new[index] = builder.copy(node, (new[a] for a in node.args))
    return builder.graph(*(new[o] for o in outputs))


def needs(graph: KernelGraph, outputs: Iterable[int], known: Container[int] = ()) -> list[int]:
    """Return the indices of all nodes that the outputs rest on, ascending.

    Nodes in `known` are among them, but not what they rest on.
    """
    seen, todo = set[int](), list(outputs)
    while todo:
        if (index := todo.pop()) not in seen:
            seen.add(index)
            if index not in known:
                todo += graph.nodes[index].args
    return sorted(seen)


def drop_unused(graph: KernelGraph) -> KernelGraph:
    """Return the graph without the nodes that no output rests on."""
    kept = needs(graph, graph.outputs)
    new = {old: i for i, old in enumerate(kept)}
    nodes = tuple(
        Node(n.op, tuple(new[a] for a in n.args), n.attrs, n.space)
        for n in (graph.nodes[old] for old in kept)
    )
    return KernelGraph(nodes, tuple(new[o] for o in graph.outputs))


def part(graph: KernelGraph, outputs: Sequence[int]) -> KernelGraph:
    """Return the graph of these outputs alone, without nodes that only others need."""
    return drop_unused(KernelGraph(graph.nodes, tuple(outputs)))


def grouped(
    graph: KernelGraph, kind: Callable[[int], Any], most: int
) -> list[tuple[Any, list[int]]]:
    """Return the distinct outputs by kind, in groups of at most `most`.

    A backend computes a group in one pass.
    """
    groups: dict[Any, list[int]] = {}
    for output in dict.fromkeys(graph.outputs):
        groups.setdefault(kind(output), []).append(output)
    return [
        (key, outputs[i : i + most])
        for key, outputs in groups.items()
        for i in range(0, len(outputs), most)
    ]
