"""From a program to what is done to every tensor: traced, lowered, in one of three tiers.

    fused    streamed kernels only
    hybrid   the verified graph, run by torch on whole tensors
    eager    the function itself, on real tensors inside the sandbox: the last resort

A program is traced once per shape, and per tensor only if it asked for a value or drew numbers that
Python saw; draws of the tensor's size get each tensor's own keys (trace/draws.py). Tensors whose traces
come to the same share one plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from ...kernels.compiler.passes import canonical
from ...kernels.compiler.staging import stage_merge
from ...kernels.ir import KernelGraph, Node, Op
from ...kernels.stages import KernelPlan
from ...kernels.verify import verify
from ..trace.graph import TraceGraph
from ..trace.packing import pack, parse

TIERS = ("fused", "hybrid", "eager")  # best first
VIEWS = ("own", "flat")


@dataclass(frozen=True)
class TensorPlan:
    """What is done to one tensor. `reason` says what forced it below the fused tier."""

    tier: str
    graph: KernelGraph | None = None
    trace: TraceGraph | None = None
    eager_file: str | None = None  # holds the float32 update under the tensor's name
    reason: str | None = None
    view: str = "own"  # the tensor's own shape, or "flat" where only a vector makes sense

    @property
    def fingerprint(self) -> str:
        if self.graph:
            return self.graph.fingerprint
        return self.trace.fingerprint if self.trace else str(self.eager_file)

    @cached_property
    def kernel(self) -> KernelPlan:
        """What a fused plan runs; looked up once, as graphs are compared node by node."""
        assert self.graph is not None, f"a {self.tier} plan has no kernels"
        return compiled(self.graph)

    def with_keys(self, keys: Mapping[int, int]) -> TensorPlan:
        """The same for another tensor, whose draws have other keys."""
        graph, trace = self.graph, self.trace
        if graph is not None:
            graph = canonical(replace(graph, nodes=tuple(rekeyed(n, keys) for n in graph.nodes)))
        if trace is not None:
            trace = trace.with_keys(keys)
        return replace(self, graph=graph, trace=trace)

    def to_json(self) -> dict[str, Any]:
        return {
            "tier": self.tier,
            "graph": self.graph.to_json() if self.graph else None,
            "trace": pack(self.trace) if self.trace else None,
            "eager_file": self.eager_file,
            "reason": self.reason,
            "view": self.view,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TensorPlan:
        """Verified again: a worker trusts no one."""
        graph = KernelGraph.from_json(data["graph"]) if data["graph"] else None
        if graph:
            verify(graph)
        trace = parse(data["trace"]) if data["trace"] else None
        return TensorPlan(
            data["tier"], graph, trace, data["eager_file"], data["reason"], data["view"]
        )


@dataclass(frozen=True)
class Plan:
    """Plans by tensor name. Tensors that no expert changed are not in it."""

    tensors: Mapping[str, TensorPlan]
    fingerprint: str  # equal canonical graphs for all tensors, equal fingerprint
    num_asks: int = 0

    @property
    def tier(self) -> str:
        return max((p.tier for p in self.tensors.values()), key=TIERS.index, default="fused")

    @property
    def reason(self) -> str | None:
        return next((p.reason for p in self.tensors.values() if p.reason), None)

    @property
    def view(self) -> str:
        """ "flat" if only a vector made sense for some tensor."""
        return max((p.view for p in self.tensors.values()), key=VIEWS.index, default="own")

    def to_json(self) -> dict[str, Any]:
        """A plan that tensors share is written once."""
        distinct = {id(plan): plan for plan in self.tensors.values()}
        position = {key: i for i, key in enumerate(distinct)}
        return {
            "plans": [plan.to_json() for plan in distinct.values()],
            "tensors": {name: position[id(plan)] for name, plan in self.tensors.items()},
            "fingerprint": self.fingerprint,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Plan:
        plans = [TensorPlan.from_json(plan) for plan in data["plans"]]
        tensors = {name: plans[i] for name, i in data["tensors"].items()}
        return Plan(tensors, data["fingerprint"])


def rekeyed(node: Node, keys: Mapping[int, int]) -> Node:
    if node.op is not Op.RANDOM:
        return node
    kind, seed, draw = node.attrs
    return replace(node, attrs=(kind, keys[seed], draw))


@lru_cache(maxsize=256)
def compiled(graph: KernelGraph) -> KernelPlan:
    """The kernel plan of a graph that is canonical, as those of a TensorPlan are."""
    return stage_merge(graph)
