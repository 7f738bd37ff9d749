"""What a plan would cost on one tensor, known before it runs: a backstop, for a clock decides.

A price is seconds of one ordinary core. It counts each pass over the weights: elements, times what its
operations take. A legal plan may have 200,000 operations, each dear.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..compiler.cache import kept
from ..compiler.clock import Limit, OutOfTime
from ..compiler.size import MOST_REDUCTIONS
from ..compiler.subgraphs import grouped, needs
from ..ir import REDUCTIONS, KernelGraph, Op, Space
from ..stages import Host, KernelPlan
from ..tensors import TensorSet

MOST_CORE_S = 3_600.0
# Nanoseconds an element, by the C++ backend on one core. Other operations take CHEAP_NS.
CHEAP_NS = 0.2
DEAR_NS = {
    **dict.fromkeys((Op.SQRT, Op.RSQRT, Op.DIV, Op.ROUND_F16), 0.5),
    **dict.fromkeys((Op.EXP, Op.EXPM1, Op.LOG, Op.LOG1P, Op.SIN, Op.COS), 1.5),
    **dict.fromkeys((Op.TANH, Op.ATAN, Op.ATAN2), 2.0),
    **dict.fromkeys((Op.ASIN, Op.ACOS, Op.ERF), 3.0),
    **dict.fromkeys((Op.POW, Op.RANDOM), 4.0),
    Op.KTH: 10.0,
    Op.MOD: 30.0,
}


# How long Triton and its assembler compile a kernel, in simple operations: 1 takes about 0.01 s, and more
# where a kernel has many. A GPU's kernel is compiled where it is launched, and no clock can end that.
MOST_KERNEL_WEIGHT = 1_500
WEIGHTS = {
    **dict.fromkeys((Op.SIN, Op.COS), 45),
    Op.RANDOM: 40,
    **dict.fromkeys((Op.POW, Op.MOD), 20),
    **dict.fromkeys((Op.ERF, Op.TANH, Op.ATAN2), 10),
    **dict.fromkeys((Op.LOG, Op.LOG1P, Op.EXPM1, Op.ASIN, Op.ACOS, Op.ATAN), 6),
    **dict.fromkeys((Op.DIV, Op.SQRT, Op.RSQRT, Op.EXP), 2),
}


def check_price(plans: Iterable[KernelPlan], sets: Iterable[TensorSet]) -> None:
    """Raise OutOfTime where a plan's passes over its tensor would cost more than MOST_CORE_S."""
    for plan, tensors in zip(plans, sets, strict=True):
        price_s = 1e-9 * tensors.base.numel() * sum(map(pass_ns, stages_of(plan)))
        if price_s > MOST_CORE_S:
            cost = f"its passes over {tensors.name} would take about {price_s:.0f} s of one core"
            raise OutOfTime(
                Limit(f"{cost}, at most {MOST_CORE_S:.0f} s: use fewer operations", 0, 0)
            )


def stages_of(plan: KernelPlan) -> list[KernelGraph]:
    """Return the graphs of the stages that read the weights."""
    return [stage.graph for stage in plan.stages if not isinstance(stage, Host)]


@kept()
def kernel_weight(graph: KernelGraph) -> int:
    """Return what the heaviest kernel of a stage weighs: see MOST_KERNEL_WEIGHT."""
    weights = [WEIGHTS.get(node.op, 1) for node in graph.nodes]
    # Triton's kernels share up to 30 reductions.
    shared = groups(graph, 2 * MOST_REDUCTIONS)
    return max(sum(weights[i] for i in needs(graph, outputs)) for _, outputs in shared)


@kept()
def pass_ns(graph: KernelGraph) -> float:
    """Return what a stage takes for one element, each pass of its reductions counted."""
    total = 0.0
    for (ranked, space, _), outputs in groups(graph, MOST_REDUCTIONS):
        # Ranks of one expression over everything may need a pass each.
        passes = len(outputs) if ranked and space is Space.SCALAR else 1
        total += passes * sum(node_ns(graph, index) for index in needs(graph, outputs))
    return total


def groups(graph: KernelGraph, most: int) -> list[tuple[tuple[bool, Space, object], list[int]]]:
    """Return a stage's outputs as a backend shares passes: at most so many, of one space, or ranks of one value."""

    def kind(output: int) -> object:
        node = graph.nodes[output]
        return node.op is Op.KTH, node.space, node.args if node.op is Op.KTH else ()

    return grouped(graph, kind, most)


def node_ns(graph: KernelGraph, index: int) -> float:
    node = graph.nodes[index]
    source = graph.nodes[node.args[0]] if node.op in REDUCTIONS else node
    free = source.space is not Space.FULL or node.op in (Op.PARAM, Op.CONST)
    return 0.0 if free else DEAR_NS.get(node.op, CHEAP_NS)
