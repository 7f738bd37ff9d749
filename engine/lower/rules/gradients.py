"""Backward ops, for programs that take a few gradient steps on their coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..number import Num
from ..scope import Scope
from ..value import Value
from .composites import MEAN, computed
from .formulas import exp
from .reductions import count_of, dims_of, reduced


def formula(of: Callable[..., Num]) -> Callable[..., Value]:
    def rule(scope: Scope, node: TraceNode, *args: Any) -> Value:
        return computed(scope, of, *(scope.lift(a) for a in args), dtype=node.dtype)

    return rule


def softmax(scope: Scope, node: TraceNode, grad: Value, out: Value, dim: int, *_: Any) -> Value:
    terms = computed(scope, lambda g, y: g * y, grad, out, dtype=grad.dtype)
    total = reduced(scope, Op.REDUCE_SUM, terms, dims_of(terms, dim), True)
    return computed(scope, lambda g, y, t: (g - t) * y, grad, out, total, dtype=node.dtype)


def log_softmax(scope: Scope, node: TraceNode, grad: Value, out: Value, dim: int, *_: Any) -> Value:
    total = reduced(scope, Op.REDUCE_SUM, grad, dims_of(grad, dim), True)
    return computed(scope, lambda g, y, t: g - exp(y) * t, grad, out, total, dtype=node.dtype)


def mse_loss(
    scope: Scope, node: TraceNode, grad: Value, x: Value, y: Value, reduction: int = MEAN
) -> Value:
    scale = 2.0 / count_of(scope, x, dims_of(x, None)) if reduction == MEAN else 2.0
    return computed(scope, lambda g, a, b: (a - b) * g * scale, grad, x, y, dtype=node.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "aten.sigmoid_backward": formula(lambda g, y: g * (1.0 - y) * y),
    "aten.tanh_backward": formula(lambda g, y: g * (1.0 - y * y)),
    "aten.threshold_backward": formula(lambda g, x, t: x.of(Op.LE, t).choose(0.0, g)),
    "aten._softmax_backward_data": softmax,
    "aten._log_softmax_backward_data": log_softmax,
    "aten.mse_loss_backward": mse_loss,
}
