"""The canonical order of a graph's nodes, which does not depend on the order that the program chose."""

from __future__ import annotations

import hashlib
from typing import Any

from ..ir import COMMUTATIVE, Builder, KernelGraph, Node, Op
from .clock import check


def digests(graph: KernelGraph) -> list[tuple[str, str]]:
    """Return two hashes of each node's meaning, of which the first leaves out the values of constants.

    They do not depend on the node's number, nor on which of two commutative arguments is first.
    """
    found: list[tuple[str, str]] = []
    for node in graph.nodes:
        check()
        args = [found[a] for a in node.args]
        if node.op is Op.CONST:
            found.append((digest(node, (), []), digest(node, node.attrs, [])))
            continue
        structure = digest(node, node.attrs, [one for one, _ in args])
        # Mostly no constant lies below a node.
        same = all(one == other for one, other in args)
        found.append(
            (structure, structure if same else digest(node, node.attrs, [two for _, two in args]))
        )
    return found


def digest(node: Node, attrs: tuple[Any, ...], args: list[str]) -> str:
    """Return the hash of a node with these attributes, whose arguments have these hashes."""
    args = sorted(args) if node.op in COMMUTATIVE else args
    told = [a.hex() if isinstance(a, float) else repr(a) for a in attrs]
    text = "|".join([node.op, node.space, *told, *args])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def order(graph: KernelGraph) -> KernelGraph:
    """Put nodes into the canonical order.

    Arguments of commutative ops are sorted, and nodes are numbered as a walk from the outputs meets
    them. Structure is compared before constants, so that 0.3 a + 0.7 b and 0.4 a + 0.6 b become one
    kernel with other parameters.
    """
    names = digests(graph)
    builder, new = Builder(), dict[int, int]()
    for root in graph.outputs:
        todo = [root]
        while todo:
            check()
            index = todo[-1]
            node = graph.nodes[index]
            args = list(node.args)
            if node.op in COMMUTATIVE:
                args.sort(key=names.__getitem__)
            waiting = [a for a in reversed(args) if a not in new]
            if waiting:
                todo += waiting
                continue
            if todo.pop() not in new:
                new[index] = builder.copy(node, (new[a] for a in args))
    return builder.graph(*(new[output] for output in graph.outputs))
