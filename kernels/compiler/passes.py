"""The compiler: passes from graph to graph, and from the canonical graph to a plan.

    canonical(graph)        simplified, with one order of nodes for one meaning
    compile_graph(graph)    canonical, then a plan that ends in one element-wise pass
    compile_values(graph)   the same for a value question: a plan whose outputs are small values

No pass changes a result by more than the float32 rounding of a product of constants.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir import KernelGraph
from ..stages import KernelPlan
from ..verify import verify
from .numbering import order
from .simplify import simplify
from .staging import stage_merge, stage_values


def canonical(graph: KernelGraph) -> KernelGraph:
    """Return the graph in the form in which equal meanings have equal fingerprints.

    Raises GraphError where the graph is not legal.
    """
    verify(graph)
    for step in PASSES:
        graph = step(graph)
        verify(graph)
    return graph


def compile_graph(graph: KernelGraph) -> KernelPlan:
    """Return a plan for the update that is the graph's only output; its last stage is an Apply.

    Raises GraphError where the graph is not legal.
    """
    assert len(graph.outputs) == 1, "one program, one update"
    return stage_merge(canonical(graph))


def compile_values(graph: KernelGraph, bounded: bool = False) -> KernelPlan:
    """Return a plan for the graph's outputs, none of which may be FULL.

    Raises GraphError where the graph is not legal, and TooLarge where a `bounded` plan would be.
    """
    return stage_values(canonical(graph), bounded)


PASSES: tuple[Callable[[KernelGraph], KernelGraph], ...] = (simplify, order)
