"""Says what a program would cost on one tensor, without any weights (the `trace` command).

Numbers that the program asks for come from seeded synthetic task vectors: float32 normals with a
common part, so that norms, cosines and signs are neither all alike nor independent.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch

from ..kernels.backends import get_backend
from ..kernels.compiler.clock import OutOfTime
from ..kernels.compiler.printing import describe
from ..kernels.errors import BackendError
from ..kernels.tensors import TensorSet
from .errors import Rejected, Rejection, UsageError
from .plans.answers import answer_question
from .plans.cells import Cells, TensorCell, available_bytes, parts_in_memory
from .plans.cost import cost_of
from .plans.plan import Eager, Fused, TensorPlan
from .plans.planner import tensor_plan
from .program import Program
from .trace.conversation import Trace
from .trace.graph import TraceGraph
from .trace.program_clock import ProgramClock
from .trace.settings import TraceSettings
from .trace.tracer import Tracer

# Spread of the synthetic task vectors: the order of magnitude of fine-tuned 7B models.
SIGMA = 1e-3
# Base, experts and result are bf16.
ITEMSIZE_BYTES = 2


def synthetic_tensors(names: Sequence[str], shape: tuple[int, ...], seed: int) -> TensorSet:
    """Make a zero base, and experts whose task vectors share 0.6 of their direction.

    UsageError where they would take more than half of this machine's memory.
    """
    needed_bytes = 4 * math.prod(shape) * (len(names) + 2)
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed_bytes > machine_bytes / 2:
        raise UsageError(
            f"--shape {'x'.join(map(str, shape))}: the program asks for numbers of the weights, and "
            f"synthetic ones of this shape take {needed_bytes / 2**30:.0f} GiB; give a smaller shape"
        )
    draw = torch.Generator().manual_seed(seed)
    common = torch.randn(shape, generator=draw)
    experts = {
        name: SIGMA * (0.6 * common + 0.8 * torch.randn(shape, generator=draw)) for name in names
    }
    return TensorSet("synthetic", torch.zeros(shape), experts)


def describe_program(
    program: Program,
    shape: tuple[int, ...],
    num_experts: int,
    *,
    show: str | None = None,
    seed: int = 0,
    unsafe: bool = False,
) -> dict[str, Any]:
    """Return the `trace` command's object; `text` holds what `show` asked for.

    Raises Rejected, and UsageError where `show` cannot be shown.
    """
    names, clock = tuple(f"expert_{i + 1}" for i in range(num_experts)), ProgramClock()
    with ExitStack() as stack:
        tracer = stack.enter_context(Tracer(TraceSettings(unsafe=unsafe)))
        answers = stack.enter_context(SyntheticAnswers(tracer, names, shape, seed))
        traced = tracer.trace(
            program, names, shape, seed=seed, tensor_name="", answer=answers.answer, clock=clock
        )
    plan = interpret(traced, program, seed, clock)
    cost = cost_of(plan, shape, dict.fromkeys(("base", *names), ITEMSIZE_BYTES))
    graph = None if isinstance(traced, Rejection) else traced.graph
    return {
        "status": "ok",
        "tier": plan.tier,
        **asdict(cost),
        "fingerprint": plan.fingerprint,
        "reason": plan.reason,
        "view": plan.view,
        "synthetic": answers.tensors is not None,
        "text": text_of(plan, graph, show),
    }


class SyntheticAnswers:
    """Answers a program's questions on synthetic task vectors, made at the first one."""

    def __init__(
        self, tracer: Tracer, names: Sequence[str], shape: tuple[int, ...], seed: int
    ) -> None:
        self._tracer, self._names, self._shape, self._seed = tracer, names, shape, seed
        self._stack = ExitStack()
        self.tensors: TensorSet | None = None
        self._cell: TensorCell | None = None

    def answer(self, question: TraceGraph) -> list[torch.Tensor]:
        if self.tensors is None:
            self.tensors = synthetic_tensors(self._names, self._shape, self._seed)
        return answer_question(question, self.tensors, get_backend("auto"), {}, self._by_torch)

    def _by_torch(self, question: TraceGraph) -> list[torch.Tensor]:
        """Answer in a locked child, which reads the task vectors from a file in memory."""
        if self._cell is None or self._cell.is_lost:
            assert self.tensors is not None
            descriptor = os.memfd_create("synthetic")
            self._stack.callback(os.close, descriptor)
            parts = {"": parts_in_memory(self.tensors, descriptor)}
            cells = Cells.on(parts, self._tracer, available_bytes() // 2)
            self._cell = self._stack.enter_context(cells.open([""], cells.question_s))
        return self._cell.answer("", question)

    def __enter__(self) -> SyntheticAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def interpret(
    traced: Trace | Rejection, program: Program, seed: int, clock: ProgramClock
) -> TensorPlan:
    """Return the plan of one tensor; an unsupported program is left to the eager tier.

    Raises Rejected.
    """
    if isinstance(traced, Trace):
        try:
            with clock.running():
                return tensor_plan(traced)
        except OutOfTime as error:
            raise Rejected(Rejection("timeout", str(error))) from None
    if traced.kind == "unsupported":
        return Eager(program, seed, traced.detail)
    raise Rejected(traced)


def text_of(plan: TensorPlan, graph: TraceGraph | None, show: str | None) -> str | None:
    """Return the form of the program that --show names; None where nothing was asked.

    UsageError where that form cannot be made.
    """
    if show is None:
        return None
    if show == "graph" and graph:
        return "\n".join(f"%{i} = {node}" for i, node in enumerate(graph.nodes))
    if not isinstance(plan, Fused):
        return f"no {show}: the program is not fused ({plan.reason})"
    if show == "plan":
        return describe(plan.kernel)
    from ..kernels.triton.kernel_report import show_source

    try:
        return show_source(plan.kernel, show)
    except BackendError as error:
        raise UsageError(f"--show {show}: {error}") from None
