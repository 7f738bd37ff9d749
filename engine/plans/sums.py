"""Makes kernel graphs that compare two updates, or an update with its linear fit."""

from __future__ import annotations

from ...kernels.compiler.cache import kept
from ...kernels.compiler.passes import compile_values
from ...kernels.ir import Builder, KernelGraph, Op, Space
from ...kernels.stages import KernelPlan, nodes_of_stages


@kept(nodes_of_stages)
def rest_plan(graph: KernelGraph, names: tuple[str, ...], guess: tuple[float, ...]) -> KernelPlan:
    """Make a plan for |r|^2 and each <r, t_j> of the rest r = u - sum g_j t_j of an update."""
    builder = Builder()
    rest = add_update(builder, graph, names)
    vectors = [builder.input(name) for name in names]
    for vector, g in zip(vectors, guess, strict=True):
        rest = builder.add(Op.SUB, rest, builder.add(Op.MUL, vector, builder.const(g)))
    outputs = [total(builder, rest, other) for other in (rest, *vectors)]
    return compile_values(builder.graph(*outputs))


def distance_plan(graph: KernelGraph, other: KernelGraph, names: tuple[str, ...]) -> KernelPlan:
    """Make a plan for |u - v|^2 of two updates."""
    builder = Builder()
    updates = (add_update(builder, g, names) for g in (graph, other))
    rest = builder.add(Op.SUB, *updates)
    return compile_values(builder.graph(total(builder, rest, rest)))


def add_update(builder: Builder, graph: KernelGraph, names: tuple[str, ...]) -> int:
    """Add a graph to the builder, and return its update as a FULL value."""
    new = list[int]()
    for node in graph.nodes:
        new.append(builder.copy(node, (new[a] for a in node.args)))
    update = new[graph.outputs[0]]
    # Adding 0 * t spreads a smaller value over the tensor, and x + 0 is x.
    if builder.nodes[update].space is not Space.FULL:
        nothing = builder.add(Op.MUL, builder.input(names[0]), builder.const(0.0))
        update = builder.add(Op.ADD, update, nothing)
    return update


def total(builder: Builder, x: int, y: int) -> int:
    """Add the sum over all elements of x * y to the builder."""
    return builder.add(Op.REDUCE_SUM, builder.add(Op.MUL, x, y), space=Space.SCALAR)
