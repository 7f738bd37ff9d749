"""The compiler's front: KernelGraph -> KernelGraph passes with names, each verified, and what follows them.

    canonical(graph)        one graph for one meaning: simplify, order commutative arguments, renumber
    compile_graph(graph)    canonical, then a KernelPlan that ends in one element-wise pass
    compile_values(graph)   the same for a question: a KernelPlan whose outputs are small values

Nothing here changes a result by more than float32 rounding of a constant product.
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
    """The graph in the form in which equal meanings have equal fingerprints."""
    verify(graph)
    for step in PASSES:
        graph = step(graph)
        verify(graph)
    return graph


def compile_graph(graph: KernelGraph) -> KernelPlan:
    """A plan for one update; its last stage is the Apply."""
    assert len(graph.outputs) == 1, "one program, one update"
    return stage_merge(canonical(graph))


def compile_values(graph: KernelGraph) -> KernelPlan:
    """A plan for the small values that are the graph's outputs."""
    return stage_values(canonical(graph))


PASSES: tuple[Callable[[KernelGraph], KernelGraph], ...] = (simplify, order)
