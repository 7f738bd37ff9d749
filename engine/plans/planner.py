"""Makes the plan of a program: every selected tensor's program is traced and lowered, or rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ...kernels.compiler.passes import canonical
from ...kernels.execution.backend import Backend
from ..errors import Rejection
from ..lower import lower
from ..lower.value import NotFusable
from ..program import Program
from ..trace.conversation import Trace, TraceRequest
from ..trace.draws import draw_keys, seed_text
from ..trace.graph import TraceGraph
from ..trace.tracer import Tracer
from ..weights.bank import Bank
from .answers import answer_question
from .plan import Plan, TensorPlan


@dataclass(frozen=True)
class Planner:
    """Plans programs for one bank. `scratch` holds the updates of the eager tier."""

    bank: Bank
    tracer: Tracer
    backend: Backend
    seed: int
    scratch: Path

    def plan(self, program: Program) -> Plan | Rejection:
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
        return Plan(ordered, fingerprint_of(ordered), num_asks)

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

    def job(self, program: Program, name: str) -> TraceRequest:
        def answer(question: TraceGraph) -> list[Tensor]:
            tensors = self.bank.tensors(name)
            return answer_question(question, tensors, self.backend, self.bank.memo(name))

        shape = self.bank.base.shape(name)
        return TraceRequest(program, tuple(self.bank.experts), shape, self.seed, name, answer)

    def trace(self, program: Program, names: Sequence[str]) -> list[Trace | Rejection]:
        """For each tensor, up to the first rejection."""
        return self.tracer.trace_in_turn([self.job(program, name) for name in names])

    def tensor_plan(self, traced: Trace) -> TensorPlan:
        try:
            return TensorPlan("fused", graph=canonical(lower(traced.graph)), view=traced.view)
        except NotFusable as error:
            return TensorPlan("hybrid", trace=traced.graph, reason=str(error), view=traced.view)

    def without_trace(self, program: Program, why: Rejection) -> Plan | Rejection:
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
        return Plan(dict.fromkeys(updates, plan), fingerprint_of(updates))


def unified(plan: TensorPlan, distinct: dict[str, TensorPlan]) -> TensorPlan:
    """The first plan that means the same: what tensors share is stored, sent and compiled once."""
    return distinct.setdefault(f"{plan.tier} {plan.view} {plan.fingerprint}", plan)


def fingerprint_of(tensors: Mapping[str, Any]) -> str:
    """Of a program: its distinct plans, or for the eager tier its updates."""
    import hashlib

    from ..weights.fingerprint import tensor_digest

    words = [
        f"{name} {tensor_digest(p) if isinstance(p, Tensor) else p.fingerprint}"
        for name, p in tensors.items()
    ]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
