"""Says which graphs are legal.

A graph is checked where untrusted code sends it, where the compiler takes it, and after each pass.
"""

from __future__ import annotations

from .ir import (
    BINARY,
    DOUBLE,
    ELEMENTWISE,
    REDUCTIONS,
    TERNARY,
    UNARY,
    KernelGraph,
    Node,
    Op,
    Space,
    join,
)

MAX_NODES = 20_000
RANDOM_KINDS = ("uniform", "normal")
# The spaces that a reduction may leave, by the space of its argument.
REDUCED = {
    Space.FULL: {Space.SCALAR, Space.ROW, Space.COL},
    Space.ROW: {Space.SCALAR},
    Space.COL: {Space.SCALAR},
    Space.SCALAR: set(),
}


class GraphError(ValueError):
    """A graph breaks a rule. The message names the node and the rule."""


def verify(graph: KernelGraph, *, max_nodes: int = MAX_NODES) -> None:
    """Raise GraphError at the first node that breaks a rule."""
    if len(graph.nodes) > max_nodes:
        raise GraphError(f"{len(graph.nodes)} nodes, at most {max_nodes} are allowed")
    for index, node in enumerate(graph.nodes):
        if fault := node_fault(graph, index, node):
            raise GraphError(f"node {index} ({node.op.value}): {fault}")
    for output in graph.outputs:
        if not (isinstance(output, int) and 0 <= output < len(graph.nodes)):
            raise GraphError(f"output {output} is no node")


def node_fault(graph: KernelGraph, index: int, node: Node) -> str | None:
    """Return what is wrong with one node, or None."""
    if not all(isinstance(a, int) and 0 <= a < index for a in node.args):
        return f"arguments {node.args} are not all earlier nodes"
    if len(node.args) != arity(node.op):
        return f"{len(node.args)} arguments, not {arity(node.op)}"
    spaces = [graph.nodes[a].space for a in node.args]
    if node.op in ELEMENTWISE:
        if node.attrs and (node.attrs != DOUBLE or node.space is Space.FULL):
            return "has attributes"
        return None if node.space is join(*spaces) else f"space {node.space.value} of {spaces}"
    if node.op in REDUCTIONS:
        return reduction_fault(node, spaces[0])
    return LEAF_RULES[node.op](node)


def arity(op: Op) -> int:
    """Return how many arguments an op takes."""
    if op in UNARY or op in REDUCTIONS:
        return 1
    return 2 if op in BINARY else 3 if op in TERNARY else 0


def reduction_fault(node: Node, space: Space) -> str | None:
    if node.space not in REDUCED[space]:
        return f"leaves {node.space.value} of {space.value}"
    if node.op is not Op.KTH:
        return "has attributes" if node.attrs else None
    good = len(node.attrs) == 1 and is_count(node.attrs[0]) and node.attrs[0] >= 1
    return None if good else f"rank {node.attrs}"


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def input_fault(node: Node) -> str | None:
    if node.space is not Space.FULL:
        return "an input is FULL"
    named = len(node.attrs) == 1 and isinstance(node.attrs[0], str) and node.attrs[0]
    return None if named else f"name {node.attrs}"


def const_fault(node: Node) -> str | None:
    one = len(node.attrs) == 1 and isinstance(node.attrs[0], float)
    return None if one and node.space is Space.SCALAR else f"value {node.attrs}"


def param_fault(node: Node) -> str | None:
    if node.space is Space.FULL:
        return "a slot is never FULL"
    good = len(node.attrs) == 1 and is_count(node.attrs[0]) and node.attrs[0] >= 0
    return None if good else f"slot {node.attrs}"


def range_fault(node: Node) -> str | None:
    if len(node.attrs) != 3 or not all(map(is_count, node.attrs)):
        return f"range {node.attrs}"
    start, stop, step = node.attrs
    if node.space is Space.SCALAR:
        return "a range needs an axis"
    return None if 0 <= start <= stop and step >= 1 else f"range {node.attrs}"


def index_fault(node: Node) -> str | None:
    """An index is a vector, so the host computes it and backends need no form of it."""
    good = node.space in (Space.ROW, Space.COL) and not node.attrs
    return None if good else f"index {node.attrs} in {node.space}"


def random_fault(node: Node) -> str | None:
    if node.space is not Space.FULL or len(node.attrs) != 3:
        return f"draw {node.attrs}"
    kind, seed, draw = node.attrs
    good = kind in RANDOM_KINDS and is_count(seed) and is_count(draw) and 0 <= draw < 2**32
    return None if good and seed >= 0 else f"draw {node.attrs}"


LEAF_RULES = {
    Op.INPUT: input_fault,
    Op.CONST: const_fault,
    Op.PARAM: param_fault,
    Op.IN_RANGE: range_fault,
    Op.INDEX: index_fault,
    Op.RANDOM: random_fault,
}
