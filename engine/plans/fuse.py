"""Lowers a trace to a kernel graph, compiled; or says why torch has to run it.

A bug of ours in lowering, canonical forms or staging costs speed, never the command: the trace is run by
torch, and the traceback is kept.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from ...kernels.compiler.passes import canonical, compile_values
from ...kernels.ir import Space
from ...kernels.stages import KernelPlan
from ..lower import lower, lower_numbers
from ..lower.value import NotFusable
from ..trace.graph import TraceGraph
from .plan import Fused

MAX_KNOWN = 256  # questions whose plans are kept


@dataclass(frozen=True)
class NotFused:
    """Why a trace has no kernels. `fault` is the traceback where that is a bug of ours."""

    reason: str
    fault: str | None = None


_known: dict[str, tuple[KernelPlan, tuple[int, ...]] | NotFused] = {}


def fused(graph: TraceGraph, view: str) -> Fused | NotFused:
    """Return the fused plan of a traced program, its stages compiled."""
    try:
        plan = Fused(canonical(lower(graph)), view, len(graph.nodes))
        _ = plan.kernel
        return plan
    except NotFusable as error:
        return NotFused(str(error))
    except Exception as error:
        return faulty(error)


def values_plan(question: TraceGraph) -> tuple[KernelPlan, tuple[int, ...]] | NotFused:
    """Return the kernel plan that computes a question's numbers, and how many each output has.

    It is kept, because a program asks the same of each tensor of a shape.
    """
    key = question.question_fingerprint
    if key not in _known:
        if len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[key] = _values_plan(question)
    return _known[key]


def _values_plan(question: TraceGraph) -> tuple[KernelPlan, tuple[int, ...]] | NotFused:
    try:
        graph, counts = lower_numbers(question)
        if any(graph.nodes[output].space is not Space.SCALAR for output in graph.outputs):
            return NotFused("an answer is no number")
        return compile_values(graph), counts
    except NotFusable as error:
        return NotFused(str(error))
    except Exception as error:
        return faulty(error)


def faulty(error: Exception) -> NotFused:
    reason = f"a bug of selfdev-engine: {type(error).__name__}: {error}"
    return NotFused(reason[:400], traceback.format_exc())
