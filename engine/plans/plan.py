"""A plan: what is done to every tensor, in one of three tiers.

    Fused    streamed kernels only
    Hybrid   the verified graph, run by torch on whole tensors in a locked child
    Eager    the function itself, on real tensors in a locked child: the last resort

What a locked child computed is Computed from then on: an update in a file, of either tier. Only Fused
and Computed plans are surveyed, sent to a worker and applied. Tensors whose traces come to the same
share one plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import ClassVar, final

from ...kernels.compiler.cache import kept
from ...kernels.compiler.passes import canonical
from ...kernels.compiler.staging import stage_merge
from ...kernels.ir import KernelGraph, Node, Op
from ...kernels.stages import KernelPlan, nodes_of_stages
from ...kernels.verify import verify
from ..program import Program
from ..trace.graph import TraceGraph
from ..trace.program_clock import ProgramClock
from .packed import PackedPlan

# Tiers from best to worst, and views. A plan has the last one of those of its tensors.
TIERS = ("fused", "hybrid", "eager")
VIEWS = ("own", "flat")
# Maps a random draw's key in the trace to the tensor's own key.
Keys = Mapping[int, int]


@final
@dataclass(frozen=True)
class Fused:
    """Kernels stream the weights of this tensor. `graph` is canonical."""

    graph: KernelGraph
    # "own": the program gets the tensor's own shape; "flat": a vector, where only that makes sense.
    view: str = "own"
    # Nodes of the trace that the graph was lowered from; says nothing about the numbers.
    num_ops: int = field(default=0, compare=False)
    tier: ClassVar[str] = "fused"
    reason: ClassVar[None] = None

    @property
    def fingerprint(self) -> str:
        """Names what is computed: equal graphs have equal fingerprints."""
        return self.graph.fingerprint

    @cached_property
    def kernel(self) -> KernelPlan:
        """The stages that run; looked up once, since graphs are compared node by node."""
        return compiled(self.graph)

    def with_keys(self, keys: Keys) -> Fused:
        """Return the same plan for another tensor, whose draws have other keys."""
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
    # The traceback where a bug of ours kept the trace from being fused; says nothing about the numbers.
    fault: str | None = field(default=None, compare=False)
    tier: ClassVar[str] = "hybrid"

    @property
    def fingerprint(self) -> str:
        return self.trace.fingerprint

    @property
    def num_ops(self) -> int:
        return len(self.trace.nodes)

    def with_keys(self, keys: Keys) -> Hybrid:
        """Return the same plan for another tensor, whose draws have other keys."""
        return replace(self, trace=self.trace.with_keys(dict(keys)))


@final
@dataclass(frozen=True)
class Eager:
    """The function itself runs on real tensors. `reason` says why it has no trace."""

    program: Program
    seed: int
    reason: str
    tier: ClassVar[str] = "eager"
    view: ClassVar[str] = "own"
    num_ops: ClassVar[int] = 0

    @property
    def fingerprint(self) -> str:
        """Names the program's code and parameters, and the seed."""
        words = (self.program.code, sorted(self.program.params.items()), self.seed)
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


@final
@dataclass(frozen=True)
class Computed:
    """The update was computed once, in a locked child, and lies in a file.

    `file` (safetensors) holds float32 updates by tensor name. All else is of the plan that it was
    computed from.
    """

    file: str
    tier: str
    reason: str
    fingerprint: str
    view: str = "own"
    num_ops: int = 0

    @staticmethod
    def of(plan: Hybrid | Eager, file: str) -> Computed:
        return Computed(file, plan.tier, plan.reason, plan.fingerprint, plan.view, plan.num_ops)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


TensorPlan = Fused | Hybrid | Eager | Computed


def tensor_plan_of(data: Mapping[str, object], places: Mapping[str, str]) -> TensorPlan:
    """Make a tensor's plan from plain data, and verify its graph again: a worker trusts no one.

    `places` has where files lie, by their names in the data; a file that is not there lies at its name.
    ValueError for data of another form, GraphError for a graph that is not legal.
    """
    match data:
        case {"tier": "fused", "graph": dict(graph), "view": str(view)}:
            found = KernelGraph.from_json(graph)
            verify(found)
            check_merge(found)
            return Fused(found, view)
        case {
            "file": str(file),
            "tier": str(tier),
            "reason": str(reason),
            "fingerprint": str(name),
        }:
            return Computed(places.get(file, file), tier, reason, name)
    raise ValueError(f"no plan of a tensor: {str(data)[:200]}")


def check_merge(graph: KernelGraph) -> None:
    """Raise ValueError unless a legal graph is a merge: one output, and no slot of a later stage."""
    if len(graph.outputs) != 1 or any(node.op is Op.PARAM for node in graph.nodes):
        raise ValueError("a graph with slots, or not with one output, is no merge")


# What plain data of another form raises where its parts are taken out.
MISSHAPEN = (KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Plan:
    """The plan of one program: a tensor's plan by tensor name. `Planner` makes it.

    Tensors that no expert changed are not in it. Equal canonical graphs for all tensors give an
    equal `fingerprint`. `num_asks` counts the values that the program asked for.
    """

    tensors: Mapping[str, TensorPlan]
    fingerprint: str
    num_asks: int = 0
    # What the program may still take of the driver's time; says nothing about the updates.
    clock: ProgramClock = field(default_factory=ProgramClock, compare=False, repr=False)

    @property
    def tier(self) -> str:
        """The worst tier of any tensor."""
        return max((p.tier for p in self.tensors.values()), key=TIERS.index, default="fused")

    @property
    def reason(self) -> str | None:
        """Why the first tensor that is not fused is not; None where all are."""
        return next((p.reason for p in self.tensors.values() if p.reason), None)

    @property
    def view(self) -> str:
        """The view "flat" if only a vector made sense for some tensor, else "own"."""
        return max((p.view for p in self.tensors.values()), key=VIEWS.index, default="own")

    def to_bytes(self) -> PackedPlan:
        """Return the plan as JSON for a worker; a plan that tensors share is written once.

        Its updates that torch computes must be computed.
        """
        distinct = dict[int, Fused | Computed]()
        for plan in self.tensors.values():
            assert isinstance(plan, (Fused, Computed)), f"a {plan.tier} plan is not computed yet"
            distinct[id(plan)] = plan
        position = {key: i for i, key in enumerate(distinct)}
        data = {
            "plans": [plan.to_json() for plan in distinct.values()],
            "tensors": {name: position[id(plan)] for name, plan in self.tensors.items()},
            "fingerprint": self.fingerprint,
        }
        files = {plan.file: None for plan in distinct.values() if isinstance(plan, Computed)}
        return PackedPlan(json.dumps(data).encode(), files)

    @staticmethod
    def from_bytes(data: bytes, places: Mapping[str, str] | None = None) -> Plan:
        """Return the plan that `to_bytes` wrote, verified again.

        `places` says where files lie on this machine, by their names in the plan; None: there.
        ValueError or GraphError for bytes that are no plan.
        """
        try:
            fields = json.loads(data)
            plans = {i: tensor_plan_of(one, places or {}) for i, one in enumerate(fields["plans"])}
            tensors = {name: plans[i] for name, i in fields["tensors"].items()}
            return Plan(tensors, str(fields["fingerprint"]))
        except MISSHAPEN as error:
            raise ValueError(f"no plan: {type(error).__name__}: {str(error)[:200]}") from error


def rekeyed(node: Node, keys: Keys) -> Node:
    """Return a node with the tensor's own key, if it draws random numbers."""
    if node.op is not Op.RANDOM:
        return node
    kind, seed, draw = node.attrs
    return replace(node, attrs=(kind, keys[seed], draw))


@kept(nodes_of_stages)
def compiled(graph: KernelGraph) -> KernelPlan:
    """Return the stages of a canonical graph, such as that of a Fused plan. Raises TooLarge."""
    return stage_merge(graph, bounded=True)
