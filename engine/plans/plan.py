"""A plan: what is done to every tensor, in one of three tiers.

    Fused    streamed kernels only
    Hybrid   the verified graph, run by torch on whole tensors
    Eager    the function itself, on real tensors inside the sandbox: the last resort

Tensors whose traces come to the same share one plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import ClassVar, final

from ...kernels.compiler.passes import canonical
from ...kernels.compiler.staging import stage_merge
from ...kernels.ir import KernelGraph, Node, Op
from ...kernels.stages import KernelPlan
from ...kernels.verify import verify
from ..trace.graph import TraceGraph
from ..trace.packing import pack, parse

TIERS = ("fused", "hybrid", "eager")  # best first
VIEWS = ("own", "flat")
Keys = Mapping[int, int]  # a draw's key in the trace -> this tensor's own


@final
@dataclass(frozen=True)
class Fused:
    """Kernels stream the weights. `graph` is canonical."""

    graph: KernelGraph
    # "own" is the tensor's own shape, "flat" the vector where only that makes sense.
    view: str = "own"
    # Nodes of the trace that the graph was lowered from; says nothing about the numbers.
    num_ops: int = field(default=0, compare=False)
    tier: ClassVar[str] = "fused"
    reason: ClassVar[None] = None

    @property
    def fingerprint(self) -> str:
        return self.graph.fingerprint

    @cached_property
    def kernel(self) -> KernelPlan:
        """The stages that run; looked up once, since graphs are compared node by node."""
        return compiled(self.graph)

    def with_keys(self, keys: Keys) -> Fused:
        """The same for another tensor, whose draws have other keys."""
        nodes = tuple(rekeyed(node, keys) for node in self.graph.nodes)
        return replace(self, graph=canonical(replace(self.graph, nodes=nodes)))

    def to_json(self) -> dict[str, object]:
        return {"tier": self.tier, "graph": self.graph.to_json(), "view": self.view}


@final
@dataclass(frozen=True)
class Hybrid:
    """Torch runs the verified graph on whole tensors. `reason` says why it is not fused."""

    trace: TraceGraph
    reason: str
    view: str = "own"
    tier: ClassVar[str] = "hybrid"

    @property
    def fingerprint(self) -> str:
        return self.trace.fingerprint

    @property
    def num_ops(self) -> int:
        return len(self.trace.nodes)

    def with_keys(self, keys: Keys) -> Hybrid:
        """The same for another tensor, whose draws have other keys."""
        return replace(self, trace=self.trace.with_keys(dict(keys)))

    def to_json(self) -> dict[str, object]:
        trace = pack(self.trace)
        return {"tier": self.tier, "trace": trace, "reason": self.reason, "view": self.view}


@final
@dataclass(frozen=True)
class Eager:
    """The function ran on real tensors; `file` (safetensors) holds float32 updates by tensor name."""

    file: str
    reason: str
    tier: ClassVar[str] = "eager"
    view: ClassVar[str] = "own"
    num_ops: ClassVar[int] = 0

    @property
    def fingerprint(self) -> str:
        return self.file

    def to_json(self) -> dict[str, object]:
        return {"tier": self.tier, "file": self.file, "reason": self.reason}


TensorPlan = Fused | Hybrid | Eager


def tensor_plan_of(data: Mapping[str, object]) -> TensorPlan:
    """A tensor's plan from plain data, its graph verified again: a worker trusts no one."""
    match data:
        case {"tier": "fused", "graph": dict(graph), "view": str(view)}:
            found = KernelGraph.from_json(graph)
            verify(found)
            return Fused(found, view)
        case {"tier": "hybrid", "trace": dict(trace), "reason": str(reason), "view": str(view)}:
            return Hybrid(parse(trace), reason, view)
        case {"tier": "eager", "file": str(file), "reason": str(reason)}:
            return Eager(file, reason)
    raise ValueError(f"no plan of a tensor: {str(data)[:200]}")


@dataclass(frozen=True)
class Plan:
    """Plans by tensor name. Tensors that no expert changed are not in it."""

    tensors: Mapping[str, TensorPlan]
    fingerprint: str  # equal canonical graphs for all tensors, equal fingerprint
    num_asks: int = 0

    @property
    def tier(self) -> str:
        """The worst tier of any tensor."""
        return max((p.tier for p in self.tensors.values()), key=TIERS.index, default="fused")

    @property
    def reason(self) -> str | None:
        """Why the first tensor that is not fused is not."""
        return next((p.reason for p in self.tensors.values() if p.reason), None)

    @property
    def view(self) -> str:
        """ "flat" if only a vector made sense for some tensor."""
        return max((p.view for p in self.tensors.values()), key=VIEWS.index, default="own")

    def to_bytes(self) -> bytes:
        """JSON for a worker; a plan that tensors share is written once."""
        distinct = {id(plan): plan for plan in self.tensors.values()}
        position = {key: i for i, key in enumerate(distinct)}
        return json.dumps(
            {
                "plans": [plan.to_json() for plan in distinct.values()],
                "tensors": {name: position[id(plan)] for name, plan in self.tensors.items()},
                "fingerprint": self.fingerprint,
            }
        ).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """The plan that was written. ValueError or GraphError for what is none."""
        fields = json.loads(data)
        plans = [tensor_plan_of(plan) for plan in fields["plans"]]
        tensors = {name: plans[i] for name, i in fields["tensors"].items()}
        return Plan(tensors, fields["fingerprint"])


def rekeyed(node: Node, keys: Keys) -> Node:
    if node.op is not Op.RANDOM:
        return node
    kind, seed, draw = node.attrs
    return replace(node, attrs=(kind, keys[seed], draw))


@lru_cache(maxsize=256)
def compiled(graph: KernelGraph) -> KernelPlan:
    """The stages of a graph that is canonical, as those of a Fused are."""
    return stage_merge(graph)
