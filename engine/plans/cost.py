"""What a plan costs on one tensor; the commands `trace` and `merge` report the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...kernels.stages import num_passes, plan_bytes
from .plan import Fused, TensorPlan


@dataclass(frozen=True)
class Cost:
    """The cost of one tensor's plan.

    `ops` are nodes of the trace, `passes` are over the weights, `bytes` are all reads plus the
    write. A tensor that torch computes takes one pass, which reads base and experts whole. An eager
    plan has no trace, so no ops.
    """

    ops: int
    passes: int
    bytes: int


def cost_of(plan: TensorPlan, shape: tuple[int, ...], itemsizes: Mapping[str, int]) -> Cost:
    """Return the cost for one tensor of this shape.

    `itemsizes` are bytes of an element, by expert name and "base".
    """
    *rows, cols = shape or (1,)
    if isinstance(plan, Fused):
        moved = sum(plan_bytes(plan.kernel, (math.prod(rows), cols), itemsizes))
        return Cost(plan.num_ops, num_passes(plan.kernel), moved)
    moved = math.prod(shape) * (sum(itemsizes.values()) + itemsizes["base"])
    return Cost(plan.num_ops, 1, moved)
