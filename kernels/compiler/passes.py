"""The compiler's front: Graph -> Graph passes with names, each verified, and what follows them.

    canonical(graph)        one graph for one meaning: simplify, order commutative arguments, renumber
    compile_graph(graph)    canonical, then a Plan that ends in one element-wise pass
    compile_values(graph)   the same for a question: a Plan whose outputs are small values

Nothing here changes a result by more than float32 rounding of a constant product.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import Graph
from ..stages import Plan
from ..verify import verify
from .numbering import order
from .simplify import simplify
from .staging import stage_merge, stage_values


def canonical(graph: Graph) -> Graph:
    """The graph in the form in which equal meanings have equal fingerprints."""
    verify(graph)
    for step in PASSES:
        graph = step(graph)
        verify(graph)
    return graph


def compile_graph(graph: Graph) -> Plan:
    """A plan for one update; its last stage is the Apply."""
    assert len(graph.outputs) == 1, "one program, one update"
    return stage_merge(canonical(graph))


def compile_values(graph: Graph) -> Plan:
    """A plan for the small values that are the graph's outputs."""
    return stage_values(canonical(graph))


PASSES: tuple[Callable[[Graph], Graph], ...] = (simplify, order)
