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
def pass_ns(graph: KernelGraph) -> float:
    """Return what a stage takes for one element, each pass of its reductions counted."""

    def kind(output: int) -> object:
        node = graph.nodes[output]
        return node.op is Op.KTH, node.space, node.args if node.op is Op.KTH else ()

    total = 0.0
    for (ranked, space, _), outputs in grouped(graph, kind, MOST_REDUCTIONS):
        # Ranks of one expression over everything may need a pass each.
        passes = len(outputs) if ranked and space is Space.SCALAR else 1
        total += passes * sum(node_ns(graph, index) for index in needs(graph, outputs))
    return total


def node_ns(graph: KernelGraph, index: int) -> float:
    node = graph.nodes[index]
    source = graph.nodes[node.args[0]] if node.op in REDUCTIONS else node
    free = source.space is not Space.FULL or node.op in (Op.PARAM, Op.CONST)
    return 0.0 if free else DEAR_NS.get(node.op, CHEAP_NS)
