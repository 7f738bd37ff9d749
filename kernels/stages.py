"""A compiled graph: sweeps that fill slots, small host steps between them, one element-wise pass.

    slots    numbers that a later stage reads: lifted constants first, then what stages produce.
             A slot holds a float32 tensor: [] (SCALAR), [R, 1] (ROW) or [1, C] (COL).
    Sweep    one pass over the task vectors; every output is a reduction node
    Host     a few ops on slots only, by torch on small tensors
    Apply    the last pass: reads base and experts once, writes base + update once

Inside a stage's graph a slot is a PARAM leaf (attrs (slot,), space of that slot).
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import Graph


@dataclass(frozen=True)
class Sweep:
    graph: Graph  # outputs: reduction nodes over element-wise expressions
    slots: tuple[int, ...]  # slots[i] receives outputs[i]
    keys: tuple[str, ...]  # keys[i] names the statistic: equal keys, equal meaning, any candidate


@dataclass(frozen=True)
class Host:
    graph: Graph  # no FULL value in it
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Apply:
    graph: Graph  # one output, the update; element-wise only


Stage = Sweep | Host | Apply


@dataclass(frozen=True)
class Plan:
    """What a backend executes. Structure and numbers apart: one kernel serves many constants."""

    stages: tuple[Stage, ...]  # Apply, where there is one, comes last
    params: tuple[float, ...]  # lifted constants, in slots 0, 1, ...
    num_slots: int
    outputs: tuple[int, ...]  # slots of the wanted small values, for a plan without Apply
