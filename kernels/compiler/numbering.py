"""Digests of nodes, and an order of nodes that does not depend on the program's."""

from __future__ import annotations

import hashlib

from ..ir import COMMUTATIVE, ELEMENTWISE, Builder, KernelGraph, Op

# ---- order: arguments of commutative ops by meaning, then one numbering for one graph -------------


def digests(graph: KernelGraph, constants: bool = True) -> list[str]:
    """A hash of each node's meaning, whatever its number and the order of commutative arguments.

    Without `constants`, of its structure alone.
    """
    found: list[str] = []
    for node in graph.nodes:
        args = [found[a] for a in node.args]
        args = sorted(args) if node.op in COMMUTATIVE else args
        told = node.attrs if constants or node.op is not Op.CONST else ()
        attrs = [a.hex() if isinstance(a, float) else repr(a) for a in told]
        text = "|".join([node.op.value, node.space.value, *attrs, *args])
        found.append(hashlib.sha256(text.encode()).hexdigest()[:24])
    return found


def order(graph: KernelGraph) -> KernelGraph:
    """Sort commutative arguments; number nodes as a walk from the outputs meets them.

    By structure first: 0.3 a + 0.7 b and 0.4 a + 0.6 b are one kernel with other parameters.
    """
    names = list(zip(digests(graph, constants=False), digests(graph), strict=True))
    builder, new = Builder(), dict[int, int]()
    for root in graph.outputs:
        todo = [root]
        while todo:
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
                space = None if node.op in ELEMENTWISE else node.space
                mapped = (new[a] for a in args)
                new[index] = builder.add(node.op, *mapped, attrs=node.attrs, space=space)
    return builder.graph(*(new[output] for output in graph.outputs))
