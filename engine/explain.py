"""What a program would cost on one tensor, without any weights (the `trace` command).

Numbers that the program asks for come from seeded synthetic task vectors: float32 normals with a
common part, so that norms, cosines and signs are neither all alike nor independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..kernels.backends import get_backend
from ..kernels.compiler.passes import canonical, compile_graph
from ..kernels.compiler.printing import describe
from ..kernels.errors import BackendError
from ..kernels.stages import KernelPlan, num_passes, plan_bytes
from ..kernels.tensors import TensorSet
from .errors import Rejected, Rejection, UsageError
from .lower import lower
from .lower.value import NotFusable
from .plans.answers import answer_question
from .program import Program
from .trace.graph import TraceGraph
from .trace.settings import TraceSettings
from .trace.tracer import Tracer

SIGMA = 1e-3  # of the synthetic task vectors: the order of magnitude of fine-tuned 7B models
ITEMSIZE_BYTES = 2  # of base, experts and result: bf16


@dataclass(frozen=True)
class Meaning:
    """A traced program for one shape: its plan where it is fused, else why it is not."""

    trace: TraceGraph | None
    plan: KernelPlan | None
    fingerprint: str
    reason: str | None
    view: str = "own"

    @property
    def tier(self) -> str:
        return "fused" if self.plan else "hybrid" if self.trace else "eager"


def synthetic_tensors(names: Sequence[str], shape: tuple[int, ...], seed: int) -> TensorSet:
    """A zero base, and experts whose task vectors share 0.6 of their direction."""
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
    """The `trace` command's object; `text` holds what `show` asked for. Raises Rejected."""
    names = tuple(f"expert_{i + 1}" for i in range(num_experts))
    asked: list[TensorSet] = []

    def answer(question: TraceGraph) -> list[torch.Tensor]:
        if not asked:
            asked.append(synthetic_tensors(names, shape, seed))
        return answer_question(question, asked[0], get_backend("auto"), {})

    with Tracer(TraceSettings(unsafe=unsafe)) as tracer:
        traced = tracer.trace(program, names, shape, seed=seed, tensor_name="", answer=answer)
    meaning = interpret(traced)
    read, written = cost(meaning, shape, names)
    return {
        "status": "ok",
        "tier": meaning.tier,
        "ops": len(meaning.trace.nodes) if meaning.trace else 0,
        "passes": num_passes(meaning.plan) if meaning.plan else 0,
        "bytes": read + written,
        "fingerprint": meaning.fingerprint,
        "reason": meaning.reason,
        "view": meaning.view,
        "synthetic": bool(asked),
        "text": text_of(meaning, show),
    }


def interpret(traced: Any) -> Meaning:
    """Fused where the graph lowers, else hybrid; an unsupported trace is left to the eager tier."""
    if isinstance(traced, Rejection):
        if traced.kind == "unsupported":
            return Meaning(None, None, "", traced.detail)
        raise Rejected(traced)
    try:
        graph = canonical(lower(traced.graph))
    except NotFusable as error:
        return Meaning(traced.graph, None, traced.graph.fingerprint, str(error), traced.view)
    return Meaning(traced.graph, compile_graph(graph), graph.fingerprint, None, traced.view)


def cost(meaning: Meaning, shape: tuple[int, ...], names: Sequence[str]) -> tuple[int, int]:
    """Bytes read and written for one tensor; outside the fused tier, the least there can be."""
    sizes = dict.fromkeys(("base", *names), ITEMSIZE_BYTES)
    if meaning.plan:
        rows = shape[0] if len(shape) == 2 else 1
        return plan_bytes(meaning.plan, (rows, shape[-1]), sizes)
    numel = math.prod(shape)
    return numel * sum(sizes.values()), numel * ITEMSIZE_BYTES


def text_of(meaning: Meaning, show: str | None) -> str | None:
    """The form of the program that --show names; None where nothing was asked."""
    if show is None:
        return None
    if show == "graph" and meaning.trace:
        return "\n".join(f"%{i} = {node}" for i, node in enumerate(meaning.trace.nodes))
    if meaning.plan is None:
        return f"no {show}: the program is not fused ({meaning.reason})"
    if show == "plan":
        return describe(meaning.plan)
    from ..kernels.triton.kernel_report import show_source

    try:
        return show_source(meaning.plan, show)
    except BackendError as error:
        raise UsageError(f"--show {show}: {error}") from None
