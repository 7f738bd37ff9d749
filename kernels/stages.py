"""A compiled graph: sweeps that fill slots, small host steps between them, one element-wise pass.

    slots    numbers that a later stage reads: first the constants, then what stages produce.
             A slot holds a float32 or float64 tensor: [] (SCALAR), [R, 1] (ROW) or [1, C] (COL).
    Sweep    one pass over the task vectors; every output is a reduction node
    Host     a few ops on slots only, by torch on small tensors
    Apply    the last pass: reads base and experts once, writes base + update once

Inside a stage's graph a slot is a PARAM leaf (attrs (slot,), space of that slot).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .ir import KernelGraph, Op


def structure(plan: KernelPlan) -> tuple[KernelGraph, ...]:
    """Return the graphs of a plan's stages.

    Plans whose structures are equal may run together: the same compiled code serves them.
    """
    return tuple(stage.graph for stage in plan.stages)


def nodes_of_stages(graph: KernelGraph, plan: KernelPlan) -> int:
    """Return the nodes that a plan holds, and the graph that it was made of."""
    return len(graph.nodes) + sum(len(stage.graph.nodes) for stage in plan.stages)


def num_passes(plan: KernelPlan) -> int:
    """Return how often a plan reads the weights."""
    return sum(not isinstance(stage, Host) for stage in plan.stages)


def plan_bytes(
    plan: KernelPlan, shape: tuple[int, int], itemsizes: Mapping[str, int]
) -> tuple[int, int]:
    """Return the bytes that a plan reads and writes for one tensor [R, C].

    `itemsizes` are bytes an element, by the expert's name and for "base". A pass reads the base
    and each expert that it uses once. Small vectors are not counted.
    """
    numel, read, written = shape[0] * shape[1], 0, 0
    for stage in plan.stages:
        if isinstance(stage, Host):
            continue
        used = {node.attrs[0] for node in stage.graph.nodes if node.op is Op.INPUT}
        reads_base = bool(used) or isinstance(stage, Apply)
        read += numel * (sum(itemsizes[name] for name in used) + itemsizes["base"] * reads_base)
        written += numel * itemsizes["base"] * isinstance(stage, Apply)
    return read, written


@dataclass(frozen=True)
class Sweep:
    """One pass over the weights. Its outputs are reductions of element-wise expressions."""

    graph: KernelGraph
    slots: tuple[int, ...]  # slots[i] receives outputs[i]
    keys: tuple[str, ...]  # keys[i] names outputs[i]; equal keys mean one value in any program


@dataclass(frozen=True)
class Host:
    """A few ops on slots. No value in its graph is FULL."""

    graph: KernelGraph
    slots: tuple[int, ...]  # slots[i] receives outputs[i]


@dataclass(frozen=True)
class Apply:
    """The pass that writes. Its graph is element-wise, with one output: the update."""

    graph: KernelGraph


Stage = Sweep | Host | Apply


@dataclass(frozen=True)
class KernelPlan:
    """What a backend executes for one tensor.

    Numbers are apart from the stages, so that one kernel serves many constants.
    """

    stages: tuple[Stage, ...]  # an Apply, where there is one, comes last
    params: tuple[float, ...]  # constants, in slots 0, 1, ...
    num_slots: int
    outputs: tuple[int, ...]  # slots of the values that a plan without Apply gives
