"""The canonical order of a graph's nodes, which does not depend on the order that the program chose."""

from __future__ import annotations

import hashlib

from ..ir import COMMUTATIVE, Builder, KernelGraph, Op
from .clock import check


def digests(graph: KernelGraph, constants: bool = True) -> list[str]:
    """Return a hash of each node's meaning.

    It does not depend on the node's number, nor on which of two commutative arguments is first.
    Without `constants` it does not depend on the values of constants either.
    """
    found: list[str] = []
    for node in graph.nodes:
        check()
        args = [found[a] for a in node.args]
        args = sorted(args) if node.op in COMMUTATIVE else args
        told = node.attrs if constants or node.op is not Op.CONST else ()
        attrs = [a.hex() if isinstance(a, float) else repr(a) for a in told]
        text = "|".join([node.op.value, node.space.value, *attrs, *args])
        found.append(hashlib.sha256(text.encode()).hexdigest()[:24])
    return found


def order(graph: KernelGraph) -> KernelGraph:
    """Put nodes into the canonical order.

    Arguments of commutative ops are sorted, and nodes are numbered as a walk from the outputs meets
    them. Structure is compared before constants, so that 0.3 a + 0.7 b and 0.4 a + 0.6 b become one
    kernel with other parameters.
    """
    names = list(zip(digests(graph, constants=False), digests(graph), strict=True))
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
