"""Turns a canonical graph into a plan, by the depth of reductions over the weights.

A node's depth is the number of sweeps that must have run before it can be computed. A depth has at
most one Sweep, of all reductions of FULL values of that depth, and then at most one Host step, of the
small values that a FULL expression or a deeper stage reads. Every constant becomes a slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir import REDUCTIONS, KernelGraph, Op, Space
from ..stages import Apply, Host, KernelPlan, Stage, Sweep
from .clock import check
from .numbering import digests
from .size import MAX_DEPTH, MAX_STAGE_NODES, MOST_REDUCTIONS, TooLarge
from .subgraphs import needs, subgraph

OWN = "+"  # ends the key of a statistic that depends on a program's own constants
LONG = "-"  # ends the key of one that does not, but is too long an expression to be met again
MOST_SHARED = 64  # nodes of an expression that is not LONG, written as a tree


def stage_merge(graph: KernelGraph, bounded: bool = False) -> KernelPlan:
    """Return the plan of an update, which is the canonical graph's only output.

    A `bounded` plan is refused with TooLarge where it has too many stages or nodes.
    """
    return Stager(graph, bounded).plan(merge=True)


def stage_values(graph: KernelGraph, bounded: bool = False) -> KernelPlan:
    """Return the plan of small values, an output slot for each output of the canonical graph.

    Raises TooLarge as `stage_merge` does.
    """
    assert all(graph.nodes[o].space is not Space.FULL for o in graph.outputs), "a FULL answer"
    return Stager(graph, bounded).plan(merge=False)


class Stager:
    """Makes one graph's plan, stage by stage. `slot` has the small values that are known so far."""

    def __init__(self, graph: KernelGraph, bounded: bool) -> None:
        self.graph, self.bounded = graph, bounded
        self.depth = depths(graph)
        self.deepest = max(self.depth, default=0)
        if bounded and self.deepest > MAX_DEPTH:
            words = f"{self.deepest} reductions that rest on each other, at most {MAX_DEPTH}"
            raise TooLarge(words)
        self.num_stage_nodes = 0
        self.slot: dict[int, int] = {}
        self.params: list[float] = []
        for index, node in enumerate(graph.nodes):
            if node.op is Op.CONST:
                self.slot[index] = len(self.params)
                self.params.append(node.attrs[0])
        self.num_slots = len(self.params)

    def plan(self, merge: bool) -> KernelPlan:
        swept, small = self.by_depth()
        keys = keys_of(self.graph) if any(swept) else []
        stages: list[Stage] = []
        for found, wanted in zip(swept, small, strict=True):
            if found:
                graph = self.extract(found, -(-len(found) // MOST_REDUCTIONS))
                stages.append(Sweep(graph, self.new_slots(found), tuple(keys[i] for i in found)))
            if wanted:
                graph = self.extract(wanted)
                stages.append(Host(graph, self.new_slots(wanted)))
        outputs = ()
        if merge:
            stages.append(Apply(self.extract(self.graph.outputs)))
        else:
            outputs = tuple(self.slot[o] for o in self.graph.outputs)
        return KernelPlan(tuple(stages), tuple(self.params), self.num_slots, outputs)

    def by_depth(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return what each depth's sweep and host step compute, ascending.

        Of small values only those get a slot that something outside their host step reads.
        """
        nodes, depth = self.graph.nodes, self.depth
        read = set(self.graph.outputs)
        for i, node in enumerate(nodes):
            read |= {a for a in node.args if node.space is Space.FULL or depth[i] > depth[a]}
        swept: list[list[int]] = [[] for _ in range(self.deepest + 1)]
        small: list[list[int]] = [[] for _ in range(self.deepest + 1)]
        for i, node in enumerate(nodes):
            if is_swept(self.graph, i):
                swept[depth[i]].append(i)
            elif i in read and node.space is not Space.FULL and i not in self.slot:
                small[depth[i]].append(i)
        return swept, small

    def new_slots(self, indices: Iterable[int]) -> tuple[int, ...]:
        slots = []
        for index in indices:
            self.slot[index] = self.num_slots
            slots.append(self.num_slots)
            self.num_slots += 1
        return tuple(slots)

    def extract(self, outputs: Sequence[int], num_passes: int = 1) -> KernelGraph:
        """Return what these nodes need of the graph, cut at values that have a slot."""
        check()
        outputs = tuple(outputs)
        if self.bounded:
            count = len(needs(self.graph, outputs, self.slot))
            self.num_stage_nodes += count * num_passes
            if self.num_stage_nodes > MAX_STAGE_NODES:
                words = f"its passes over the weights have more than {MAX_STAGE_NODES} operations"
                raise TooLarge(f"{words} together, as many of them compute the same values")
        return subgraph(self.graph, outputs, self.slot)


def is_swept(graph: KernelGraph, index: int) -> bool:
    """Return whether a node is a reduction over the weights."""
    node = graph.nodes[index]
    return node.op in REDUCTIONS and graph.nodes[node.args[0]].space is Space.FULL


def depths(graph: KernelGraph) -> list[int]:
    """Return the number of sweeps on which each node rests."""
    found: list[int] = []
    for index, node in enumerate(graph.nodes):
        deepest = max((found[a] for a in node.args), default=0)
        found.append(deepest + is_swept(graph, index))
    return found


def keys_of(graph: KernelGraph) -> list[str]:
    """Return a name in a memo of each node's value, which says how it follows from the weights.

    OWN ends it where constants are in the expression, LONG where nobody else will write that.
    """
    owned, size, found = list[bool](), list[int](), list[str]()
    for node, (_, name) in zip(graph.nodes, digests(graph), strict=True):
        owned.append(node.op is Op.CONST or any(owned[a] for a in node.args))
        size.append(min(MOST_SHARED, sum(size[a] for a in node.args)) + 1)
        found.append(name + (OWN if owned[-1] else LONG * (size[-1] > MOST_SHARED)))
    return found
