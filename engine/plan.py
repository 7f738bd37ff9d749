"""From a program to what is done to every tensor: traced, lowered, in one of three tiers.

    fused    streamed kernels only
    hybrid   the verified graph, run by torch on whole tensors
    eager    the function itself, on real tensors inside the sandbox: the last resort

A program is traced once per shape, and per tensor only if it asked for a value or drew numbers that
Python saw; draws of the tensor's size get each tensor's own keys (trace/draws.py). Tensors whose traces
come to the same share one plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..kernels.backend import Backend, Memo, TensorSet
from ..kernels.ir import Graph, Node, Op
from ..kernels.passes import canonical, compile_values
from ..kernels.stages import Plan
from ..kernels.staging import stage_merge
from ..kernels.verify import verify
from .bank import Bank
from .errors import Rejection
from .fuse import NotFusable, lower
from .program import Program
from .trace.draws import draw_keys, seed_text
from .trace.graph import TraceGraph
from .trace.replay import replay
from .trace.tracer import Traced, TraceJob, Tracer
from .trace.verify import pack, parse

TIERS = ("fused", "hybrid", "eager")  # best first
VIEWS = ("own", "flat")


@dataclass(frozen=True)
class TensorPlan:
    """What is done to one tensor. `reason` says what forced it below the fused tier."""

    tier: str
    graph: Graph | None = None
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
    def kernel(self) -> Plan:
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
        graph = Graph.from_json(data["graph"]) if data["graph"] else None
        if graph:
            verify(graph)
        trace = parse(data["trace"]) if data["trace"] else None
        return TensorPlan(
            data["tier"], graph, trace, data["eager_file"], data["reason"], data["view"]
        )


@dataclass(frozen=True)
class MergePlan:
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
    def from_json(data: Mapping[str, Any]) -> MergePlan:
        plans = [TensorPlan.from_json(plan) for plan in data["plans"]]
        tensors = {name: plans[i] for name, i in data["tensors"].items()}
        return MergePlan(tensors, data["fingerprint"])


@dataclass(frozen=True)
class Planner:
    """Plans programs for one bank. `scratch` holds the updates of the eager tier."""

    bank: Bank
    tracer: Tracer
    backend: Backend
    seed: int
    scratch: Path

    def plan(self, program: Program) -> MergePlan | Rejection:
        """Trace, lower, and choose tiers for every selected tensor that an expert changed."""
        plans: dict[str, TensorPlan] = {}
        distinct: dict[str, TensorPlan] = {}
        num_asks, groups = 0, self.by_shape()
        firsts = self.trace(program, [names[0] for names in groups])
        for names, first in zip(groups, firsts, strict=False):  # a rejection is the last
            if isinstance(first, Rejection):
                return self.without_trace(program, first)
            num_asks += first.num_asks
            shared = unified(self.tensor_plan(first), distinct)
            plans[names[0]] = shared
            alike = first.draw_keys is not None and not first.num_asks
            for name in names[1:] if alike else []:
                keys = self.keys_of(name, first.draw_keys or ())
                plans[name] = unified(shared.with_keys(keys), distinct) if keys else shared
            others = [] if alike else names[1:]
            for name, traced in zip(others, self.trace(program, others), strict=False):
                if isinstance(traced, Rejection):
                    return self.without_trace(program, traced)
                num_asks += traced.num_asks
                plans[name] = unified(self.tensor_plan(traced), distinct)
        ordered = {name: plans[name] for name in self.bank.selected if name in plans}
        return MergePlan(ordered, fingerprint_of(ordered), num_asks)

    def keys_of(self, name: str, traced: Sequence[int]) -> dict[int, int]:
        """For each key of the draws that were traced, this tensor's own."""
        own = draw_keys(seed_text(self.seed, name), len(traced))
        return dict(zip(traced, own, strict=True))

    def by_shape(self) -> list[list[str]]:
        """Selected tensors that an expert changed, grouped by shape."""
        groups: dict[tuple[int, ...], list[str]] = {}
        for name in self.bank.selected:
            if self.bank.changed(name):
                groups.setdefault(self.bank.base.shape(name), []).append(name)
        return list(groups.values())

    def job(self, program: Program, name: str) -> TraceJob:
        def answer(question: TraceGraph) -> list[Tensor]:
            tensors = self.bank.tensors(name)
            return answer_question(question, tensors, self.backend, self.bank.memo(name))

        shape = self.bank.base.shape(name)
        return TraceJob(program, tuple(self.bank.experts), shape, self.seed, name, answer)

    def trace(self, program: Program, names: Sequence[str]) -> list[Traced | Rejection]:
        """For each tensor, up to the first rejection."""
        return self.tracer.trace_in_turn([self.job(program, name) for name in names])

    def tensor_plan(self, traced: Traced) -> TensorPlan:
        try:
            return TensorPlan("fused", graph=canonical(lower(traced.graph)), view=traced.view)
        except NotFusable as error:
            return TensorPlan("hybrid", trace=traced.graph, reason=str(error), view=traced.view)

    def without_trace(self, program: Program, why: Rejection) -> MergePlan | Rejection:
        """The eager tier for what cannot be traced; every other rejection stands."""
        if why.kind != "unsupported" or not self.tracer.settings.eager_tier:
            return why
        updates: dict[str, Tensor] = {}
        for name in self.bank.selected:
            if not self.bank.changed(name):
                continue
            tensors = self.bank.tensors(name)
            vectors = {
                e: tensors.experts[e].float() - tensors.base.float() for e in tensors.experts
            }
            update = self.tracer.run_eager(program, vectors, seed=self.seed, tensor_name=name)
            if isinstance(update, Rejection):
                return update
            updates[name] = update
        file = (
            self.scratch / f"eager-{abs(hash((program.code, repr(program.params)))):x}.safetensors"
        )
        save_file(updates, file)
        plan = TensorPlan("eager", eager_file=str(file), reason=why.detail)
        return MergePlan(dict.fromkeys(updates, plan), fingerprint_of(updates))


def rekeyed(node: Node, keys: Mapping[int, int]) -> Node:
    if node.op is not Op.RANDOM:
        return node
    kind, seed, draw = node.attrs
    return replace(node, attrs=(kind, keys[seed], draw))


def unified(plan: TensorPlan, distinct: dict[str, TensorPlan]) -> TensorPlan:
    """The first plan that means the same: what tensors share is stored, sent and compiled once."""
    return distinct.setdefault(f"{plan.tier} {plan.view} {plan.fingerprint}", plan)


def fingerprint_of(tensors: Mapping[str, Any]) -> str:
    """Of a program: its distinct plans, or for the eager tier its updates."""
    import hashlib

    from .fingerprint import tensor_digest

    words = [
        f"{name} {tensor_digest(p) if isinstance(p, Tensor) else p.fingerprint}"
        for name, p in tensors.items()
    ]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def answer_question(
    question: TraceGraph, tensors: TensorSet, backend: Backend, memo: Memo
) -> list[Tensor]:
    """Values of a question's outputs on real task vectors: by a memoised sweep, else by torch."""
    shapes = [question.nodes[output].shape for output in question.outputs]
    try:
        values = backend.values(values_plan(lower(question)), tensors, memo)
        dtypes = [question.nodes[output].dtype for output in question.outputs]
        return [
            value.to(dtype or torch.float32).reshape(shape or ())
            for value, dtype, shape in zip(values, dtypes, shapes, strict=True)
        ]
    except (NotFusable, LargeAnswer):
        pass
    results = replay(question, task_vectors(tensors, question.shape))
    return [r for one in results for r in (one if isinstance(one, (tuple, list)) else [one])]


class LargeAnswer(Exception):
    """An answer that is no number or vector of the kernels' spaces."""


def values_plan(graph: Graph) -> Plan:
    from ..kernels.ir import Space

    if any(graph.nodes[output].space is not Space.SCALAR for output in graph.outputs):
        raise LargeAnswer
    return compile_values(graph)


def task_vectors(tensors: TensorSet, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """float32 task vectors in the shape that a trace was made for."""
    base = tensors.base.float()
    return {
        name: (expert.float() - base).reshape(shape) for name, expert in tensors.experts.items()
    }


@lru_cache(maxsize=256)
def compiled(graph: Graph) -> Plan:
    """The kernel plan of a graph that is canonical, as those of a TensorPlan are."""
    return stage_merge(graph)
