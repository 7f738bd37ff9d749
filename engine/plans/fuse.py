"""Lowers a trace to a kernel graph, compiled; or says why torch has to run it.

A bug of ours in lowering, canonical forms or staging costs speed, never the command: the trace is run by
torch, and the traceback is kept.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cachetools import LRUCache

from ...kernels.compiler.cache import MOST_NODES
from ...kernels.compiler.clock import OutOfTime, limited
from ...kernels.compiler.live import small_bytes
from ...kernels.compiler.passes import canonical, compile_values
from ...kernels.compiler.size import TooLarge
from ...kernels.execution.price import MOST_KERNEL_WEIGHT, kernel_weight, stages_of
from ...kernels.ir import Space
from ...kernels.stages import KernelPlan
from ..lower import lower, lower_numbers
from ..lower.value import NotFusable
from ..trace.graph import TraceGraph
from .plan import Fused

MAX_PLAN_CPU_S = 10.0  # spent on the kernels of one trace or of one question
# What vectors over rows or columns may take at once: so much, or this many times a tensor in float32.
MAX_SMALL_BYTES, SMALL_FACTOR = 256 << 20, 16
ENTRY_NODES = 50  # what a question counts whose plan has no nodes, or is none
ValuesPlan = tuple[KernelPlan, tuple[int, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class NotFused:
    """Why a trace has no kernels. `fault` is the traceback where that is a bug of ours."""

    reason: str
    fault: str | None = None


# The plans of questions, those asked last; they weigh as many nodes as their stages have.
_known: LRUCache[str, tuple[ValuesPlan | NotFused, int]] = LRUCache(MOST_NODES, lambda k: k[1])


def fused(graph: TraceGraph, view: str) -> Fused | NotFused:
    """Return the fused plan of a traced program, its stages compiled.

    Raises OutOfTime where a limit of the caller is over.
    """

    def plan() -> Fused:
        found = Fused(canonical(lower(graph)), view, len(graph.nodes))
        check_size(found.kernel, graph)
        return found

    return planned(plan)


def values_plan(question: TraceGraph) -> ValuesPlan | NotFused:
    """Return the kernel plan that computes a question's numbers, and how many each output has.

    It is kept, because a program asks the same of each tensor of a shape. Raises OutOfTime where a
    limit of the caller is over.
    """
    key = question.question_fingerprint
    if (known := _known.get(key)) is not None:
        return known[0]
    found = planned(partial(_values_plan, question))
    stages = () if isinstance(found, NotFused) else found[0].stages
    weight = ENTRY_NODES + sum(len(stage.graph.nodes) for stage in stages)
    if weight <= MOST_NODES:
        _known[key] = found, weight
    return found


def _values_plan(question: TraceGraph) -> ValuesPlan | NotFused:
    graph, counts = lower_numbers(question)
    if any(graph.nodes[output].space is not Space.SCALAR for output in graph.outputs):
        return NotFused("an answer is no number")
    plan = compile_values(graph, bounded=True)
    check_size(plan, question)
    return plan, counts


def check_size(plan: KernelPlan, graph: TraceGraph) -> None:
    """Raise TooLarge where a kernel has too many operations to be compiled in time.

    Or where the plan's vectors take too much memory, for a tensor of the graph's shape.
    """
    heaviest = max(map(kernel_weight, stages_of(plan)), default=0)
    if heaviest > MOST_KERNEL_WEIGHT:
        words = f"one of its kernels weighs as much as {heaviest} simple operations"
        raise TooLarge(f"{words}, at most {MOST_KERNEL_WEIGHT}")
    *rows, cols = graph.shape or (1,)
    found = small_bytes(plan, (math.prod(rows), cols))
    most = max(MAX_SMALL_BYTES, SMALL_FACTOR * 4 * math.prod(graph.shape))
    if found > most:
        size, limit = found >> 20, most >> 20
        raise TooLarge(f"its vectors take {size} MiB at once, at most {limit} MiB")


def planned(plan: Callable[[], T]) -> T | NotFused:
    """Return what `plan` does, or why it cannot or takes too long."""
    with limited(f"takes more than {MAX_PLAN_CPU_S:g} s to plan", MAX_PLAN_CPU_S) as mine:
        try:
            return plan()
        except (NotFusable, TooLarge) as error:
            return NotFused(str(error))
        except OutOfTime as error:
            if error.limit is not mine:
                raise
            return NotFused(str(error))
        except Exception as error:
            return faulty(error)


def faulty(error: Exception) -> NotFused:
    reason = f"a bug of selfdev-engine: {type(error).__name__}: {error}"
    return NotFused(reason[:400], traceback.format_exc())
