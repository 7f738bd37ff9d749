"""Makes the plan of a program: it is traced and lowered for every selected tensor, or rejected.

A program is traced once for each shape. It is traced for each tensor only if it asked for a value
or drew numbers that Python saw. Draws of the tensor's size get each tensor's own keys
(trace/draws.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from torch import Tensor

from ...kernels.compiler.clock import OutOfTime
from ...kernels.execution.backend import Backend
from ..errors import Rejection
from ..program import Program
from ..trace.conversation import Trace, TraceRequest
from ..trace.draws import draw_keys, seed_text
from ..trace.graph import TraceGraph
from ..trace.program_clock import ProgramClock
from ..trace.together import Work
from ..trace.tracer import Tracer
from ..weights.bank import Bank
from .answers import answer_question, kept_answer
from .cells import Cells, TensorCell
from .fuse import fused
from .plan import Eager, Fused, Hybrid, Plan, TensorPlan


@dataclass(frozen=True)
class Planner:
    """Plans programs for one bank; used by `merge_to_folder` and by screenings.

    `backend` answers value questions, and cells those that no kernel can.
    """

    bank: Bank
    tracer: Tracer
    backend: Backend
    seed: int
    cells: Cells

    def plan(self, program: Program) -> Plan | Rejection:
        """Trace and lower the program for every selected tensor that an expert changed.

        Each tensor gets its best tier. Returns a Rejection where a tensor cannot be planned.
        """
        (planned,) = self.plan_together([program])
        return planned.plan

    def plan_together(self, programs: Sequence[Program]) -> list[Planned]:
        """Plan several programs, which are traced side by side; no plan depends on that."""
        return self.tracer.trace_together([self._work(program) for program in programs])

    def _work(self, program: Program) -> Work[Planned]:
        with Torch(self.cells, self.changed()) as torch:
            return (yield from PlanWork(self, program, torch).planned())

    def keys_of(self, name: str, traced: Sequence[int]) -> dict[int, int]:
        """Map each key of the draws that were traced to this tensor's own."""
        own = draw_keys(seed_text(self.seed, name), len(traced))
        return dict(zip(traced, own, strict=True))

    def changed(self) -> list[str]:
        """Return the selected tensors that an expert changed; no program is asked for others."""
        return [n for n in self.bank.selection.names if self.bank.residency.changed(n)]

    def by_shape(self) -> list[list[str]]:
        """Return the changed tensors in groups of one shape."""
        groups: dict[tuple[int, ...], list[str]] = {}
        for name in self.changed():
            groups.setdefault(self.bank.selection.base.shape(name), []).append(name)
        return list(groups.values())


@dataclass(frozen=True)
class Planned:
    """A program's plan or rejection, and tracebacks of bugs of ours that cost it kernels, each once."""

    plan: Plan | Rejection
    faults: list[str]


@dataclass(frozen=True)
class PlanWork:
    """The planning of one program, which other programs' may interrupt while it waits for a trace."""

    planner: Planner
    program: Program
    torch: Torch
    faults: list[str] = field(default_factory=list)
    clock: ProgramClock = field(default_factory=ProgramClock)

    def planned(self) -> Work[Planned]:
        try:
            plan = yield from self._plan()
        except OutOfTime as error:
            plan = Rejection("timeout", str(error))
        return Planned(plan, list(dict.fromkeys(self.faults)))

    def _plan(self) -> Work[Plan | Rejection]:
        planner, plans = self.planner, dict[str, Fused | Hybrid]()
        distinct: dict[str, Fused | Hybrid] = {}
        num_asks, groups = 0, planner.by_shape()
        firsts = yield self.requests([names[0] for names in groups])
        # The list of traces may be shorter: it ends with the first rejection.
        for names, first in zip(groups, firsts, strict=False):
            if isinstance(first, Rejection):
                return self.without_trace(first)
            num_asks += first.num_asks
            shared = unified(self.noted(first), distinct)
            plans[names[0]] = shared
            alike = first.draw_keys is not None and not first.num_asks
            for name in names[1:] if alike else []:
                keys = planner.keys_of(name, first.draw_keys or ())
                with self.clock.running():
                    plans[name] = unified(shared.with_keys(keys), distinct) if keys else shared
            others = [] if alike else names[1:]
            traces = yield self.requests(others)
            for name, traced in zip(others, traces, strict=False):
                if isinstance(traced, Rejection):
                    return self.without_trace(traced)
                num_asks += traced.num_asks
                plans[name] = unified(self.noted(traced), distinct)
        ordered = {name: plans[name] for name in planner.bank.selection.names if name in plans}
        return Plan(ordered, fingerprint_of(ordered), num_asks, self.clock)

    def requests(self, names: Sequence[str]) -> list[TraceRequest]:
        return [self.request(name) for name in names]

    def request(self, name: str) -> TraceRequest:
        """Make the request to trace the program for one tensor, with answers from the bank."""
        bank, backend = self.planner.bank, self.planner.backend

        def by_torch(question: TraceGraph) -> list[Tensor]:
            return self.torch.cell.answer(name, question)

        def answer(question: TraceGraph) -> list[Tensor]:
            memo = bank.memo(name)
            if (kept := kept_answer(question, memo)) is not None:
                return kept
            tensors = bank.tensors(name)
            return answer_question(question, tensors, backend, memo, by_torch, self.faults.append)

        def known(question: TraceGraph) -> list[Tensor] | None:
            return kept_answer(question, bank.memo(name))

        shape, names = bank.selection.base.shape(name), tuple(bank.selection.experts)
        seed, clock = self.planner.seed, self.clock
        return TraceRequest(self.program, names, shape, seed, name, answer, known, clock=clock)

    def noted(self, trace: Trace) -> Fused | Hybrid:
        with self.clock.running():
            plan = tensor_plan(trace)
        if isinstance(plan, Hybrid) and plan.fault:
            self.faults.append(plan.fault)
        return plan

    def without_trace(self, why: Rejection) -> Plan | Rejection:
        """Use the eager tier where a trace is not supported; every other rejection stands."""
        if why.kind != "unsupported" or not self.planner.tracer.settings.eager_tier:
            return why
        eager = Eager(self.program, self.planner.seed, why.detail)
        tensors = dict.fromkeys(self.planner.changed(), eager)
        return Plan(tensors, fingerprint_of(tensors), clock=self.clock)


class Torch:
    """The cell of one candidate's questions, opened at the first one; a context manager."""

    def __init__(self, cells: Cells, names: Sequence[str]) -> None:
        self._cells, self._names = cells, names
        self._stack = ExitStack()
        self._cell: TensorCell | None = None

    @property
    def cell(self) -> TensorCell:
        if self._cell is None or self._cell.is_lost:
            opening = self._cells.open(self._names, self._cells.question_s)
            self._cell = self._stack.enter_context(opening)
        return self._cell

    def __enter__(self) -> Torch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def tensor_plan(trace: Trace) -> Fused | Hybrid:
    """Return a fused plan where the trace lowers to a kernel graph, else a hybrid one."""
    plan = fused(trace.graph, trace.view)
    if isinstance(plan, Fused):
        return plan
    return Hybrid(trace.graph, plan.reason, trace.view, plan.fault)


def unified(plan: Fused | Hybrid, distinct: dict[str, Fused | Hybrid]) -> Fused | Hybrid:
    """Return the first plan that means the same as this one.

    So what tensors share is stored, sent and compiled once.
    """
    return distinct.setdefault(f"{plan.tier} {plan.view} {plan.fingerprint}", plan)


def fingerprint_of(tensors: Mapping[str, TensorPlan]) -> str:
    """Return a program's name as 16 hex digits: a hash of the tensors' plans."""
    words = [f"{name} {plan.fingerprint}" for name, plan in tensors.items()]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
