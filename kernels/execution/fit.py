"""Checks that a plan fits a tensor. A legal graph may name an expert or a rank that is not there.

Kernels trust both: a rank above the count reads behind the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..compiler.cache import kept
from ..errors import BackendError
from ..ir import KernelGraph, Op, Space
from ..stages import KernelPlan
from ..tensors import TensorSet


def check_fit(plans: Iterable[KernelPlan], sets: Iterable[TensorSet]) -> None:
    """Raise BackendError where a stage reads an unknown expert, or wants a rank above the count."""
    for plan, tensors in zip(plans, sets, strict=True):
        check_one(plan, tensors)


def check_one(plan: KernelPlan, tensors: TensorSet) -> None:
    for stage in plan.stages:
        if missing := names_in(stage.graph) - tensors.experts.keys():
            raise BackendError(f"{tensors.name}: no expert {min(missing)[:80]!r}")
        if fault := rank_fault(stage.graph, *tensors.shape2d):
            raise BackendError(f"{tensors.name}: {fault}")


@kept()
def names_in(graph: KernelGraph) -> frozenset[str]:
    """Return the names of the experts that a graph reads."""
    return frozenset(node.attrs[0] for node in graph.nodes if node.op is Op.INPUT)


@kept()
def rank_fault(graph: KernelGraph, rows: int, cols: int) -> str | None:
    """Say which rank is above the count of what is ordered, in a tensor [R, C]; None where none is."""
    sizes = {Space.FULL: rows * cols, Space.ROW: rows, Space.COL: cols, Space.SCALAR: 1}
    for node in graph.nodes:
        if node.op is not Op.KTH:
            continue
        count = sizes[graph.nodes[node.args[0]].space] // max(1, sizes[node.space])
        if node.attrs[0] > count:
            return f"rank {node.attrs[0]} of {count} numbers"
    return None
