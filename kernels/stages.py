"""A compiled graph: sweeps that fill slots, small host steps between them, one element-wise pass.

    slots    numbers that a later stage reads: lifted constants first, then what stages produce.
             A slot holds a float32 tensor: [] (SCALAR), [R, 1] (ROW) or [1, C] (COL).
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
    """What plans must share to run together: all but the lifted constants."""
    return tuple(stage.graph for stage in plan.stages)


def num_passes(plan: KernelPlan) -> int:
    """How often the weights are read."""
    return sum(not isinstance(stage, Host) for stage in plan.stages)


def plan_bytes(
    plan: KernelPlan, shape: tuple[int, int], itemsizes: Mapping[str, int]
) -> tuple[int, int]:
    """Bytes (read, written) for one tensor [R, C]; `itemsizes` by expert name and "base".

    A pass reads the base and the experts it uses once; small vectors are not counted.
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
    graph: KernelGraph  # outputs: reduction nodes over element-wise expressions
    slots: tuple[int, ...]  # slots[i] receives outputs[i]
    keys: tuple[str, ...]  # keys[i] names the statistic: equal keys, equal meaning, any candidate


@dataclass(frozen=True)
class Host:
    graph: KernelGraph  # no FULL value in it
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Apply:
    graph: KernelGraph  # one output, the update; element-wise only


Stage = Sweep | Host | Apply


@dataclass(frozen=True)
class KernelPlan:
    """What a backend executes. Structure and numbers apart: one kernel serves many constants."""

    stages: tuple[Stage, ...]  # Apply, where there is one, comes last
    params: tuple[float, ...]  # lifted constants, in slots 0, 1, ...
    num_slots: int
    outputs: tuple[int, ...]  # slots of the wanted small values, for a plan without Apply
