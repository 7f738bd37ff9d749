"""Turns a canonical graph into a plan, by the depth of reductions over the weights.

A node's depth is the number of sweeps that must have run before it can be computed. A depth has at
most one Sweep, of all reductions of FULL values of that depth, and then at most one Host step, of the
small values that a FULL expression or a deeper stage reads. Every constant becomes a slot.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir import REDUCTIONS, KernelGraph, Op, Space
from ..stages import Apply, Host, KernelPlan, Stage, Sweep
from .subgraphs import subgraph

OWN = "+"  # ends the key of a statistic that depends on a program's own constants


def stage_merge(graph: KernelGraph) -> KernelPlan:
    """Return the plan of an update, which is the canonical graph's only output."""
    return Stager(graph).plan(merge=True)


def stage_values(graph: KernelGraph) -> KernelPlan:
    """Return the plan of small values, an output slot for each output of the canonical graph."""
    assert all(graph.nodes[o].space is not Space.FULL for o in graph.outputs), "a FULL answer"
    return Stager(graph).plan(merge=False)


class Stager:
    """Makes one graph's plan, stage by stage. `slot` has the small values that are known so far."""

    def __init__(self, graph: KernelGraph) -> None:
        self.graph = graph
        self.depth = depths(graph)
        self.slot: dict[int, int] = {}
        self.params: list[float] = []
        for index, node in enumerate(graph.nodes):
            if node.op is Op.CONST:
                self.slot[index] = len(self.params)
                self.params.append(node.attrs[0])
        self.num_slots = len(self.params)

    def plan(self, merge: bool) -> KernelPlan:
        stages: list[Stage] = []
        for depth in range(max(self.depth, default=0) + 1):
            stages += self.sweeps(depth) + self.hosts(depth)
        outputs = ()
        if merge:
            stages.append(Apply(self.extract(self.graph.outputs)))
        else:
            outputs = tuple(self.slot[o] for o in self.graph.outputs)
        return KernelPlan(tuple(stages), tuple(self.params), self.num_slots, outputs)

    def sweeps(self, depth: int) -> list[Stage]:
        """Return the sweep of this depth, or no stage."""
        found = [
            i for i in range(len(self.graph.nodes)) if self.swept(i) and self.depth[i] == depth
        ]
        if not found:
            return []
        keys = tuple(key_of(expression(self.graph, i)) for i in found)
        graph = self.extract(found)
        return [Sweep(graph, self.new_slots(found), keys)]

    def hosts(self, depth: int) -> list[Stage]:
        """Return the host step of this depth, or no stage.

        Only small values that something outside the step reads get a slot.
        """
        nodes = self.graph.nodes
        small = {
            i
            for i, node in enumerate(nodes)
            if self.depth[i] == depth and node.space is not Space.FULL and i not in self.slot
        }
        wanted = {
            a
            for i, node in enumerate(nodes)
            for a in node.args
            if a in small and (node.space is Space.FULL or self.depth[i] > depth)
        }
        wanted |= {o for o in self.graph.outputs if o in small}
        if not wanted:
            return []
        found = sorted(wanted)
        graph = self.extract(found)
        return [Host(graph, self.new_slots(found))]

    def swept(self, index: int) -> bool:
        """Return whether a node is a reduction over the weights."""
        node = self.graph.nodes[index]
        return node.op in REDUCTIONS and self.graph.nodes[node.args[0]].space is Space.FULL

    def new_slots(self, indices: Iterable[int]) -> tuple[int, ...]:
        slots = []
        for index in indices:
            self.slot[index] = self.num_slots
            slots.append(self.num_slots)
            self.num_slots += 1
        return tuple(slots)

    def extract(self, outputs: Iterable[int]) -> KernelGraph:
        """Return what these nodes need of the graph, cut at values that have a slot."""
        return subgraph(self.graph, tuple(outputs), self.slot)


def depths(graph: KernelGraph) -> list[int]:
    """Return the number of sweeps on which each node rests."""
    found: list[int] = []
    for node in graph.nodes:
        deepest = max((found[a] for a in node.args), default=0)
        over_weights = node.op in REDUCTIONS and graph.nodes[node.args[0]].space is Space.FULL
        found.append(deepest + over_weights)
    return found


def expression(graph: KernelGraph, index: int) -> KernelGraph:
    """Return one value's graph down to the weights, with its constants: it names the statistic."""
    return subgraph(graph, (index,), {})


def key_of(statistic: KernelGraph) -> str:
    """Return a statistic's name in a memo. OWN ends it where constants are in the expression."""
    constants = any(node.op is Op.CONST for node in statistic.nodes)
    return statistic.fingerprint + OWN * constants
