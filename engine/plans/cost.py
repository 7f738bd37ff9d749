"""What a plan costs: operations, passes over the weights, bytes."""

from __future__ import annotations

from ...kernels.stages import num_passes, plan_bytes
from ..weights.checkpoint import Checkpoint
from .plan import TensorPlan


def cost(name: str, plan: TensorPlan, base: Checkpoint) -> tuple[int, int, int]:
    """Ops, passes, and bytes that the plan's passes move for one tensor."""
    *rows, cols = base.shape(name) or (1,)
    shape = (rows[0] if rows else 1, cols)
    itemsize = base.dtype(name).itemsize
    if plan.graph is None:
        ops = len(plan.trace.nodes) if plan.trace else 0
        return ops, 1, 2 * itemsize * shape[0] * cols
    kernel = plan.kernel
    sizes = {n.attrs[0]: itemsize for n in plan.graph.nodes if n.op.value == "input"}
    moved = sum(plan_bytes(kernel, shape, {**sizes, "base": itemsize}))
    return len(plan.graph.nodes), num_passes(kernel), moved
