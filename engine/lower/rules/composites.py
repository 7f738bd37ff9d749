"""Losses, distances and normalisations, made of sums and element-wise formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..number import Num
from ..scope import Scope, check_arithmetic, each
from ..value import Value
from .elementwise import is_nan
from .formulas import exp, log, sqrt, square
from .reductions import dims_of, mean_of, reduced, variance, vector_norm, with_ones
from .sorting import amount, small_axis

NONE, MEAN = 0, 1


def computed(scope: Scope, formula: Callable[..., Num], *values: Value, dtype: Any) -> Value:
    return scope.pointwise(
        lambda *cells: formula(*(Num(scope, c) for c in cells)).index, *values, dtype=dtype
    )


def smooth(gap: Num, beta: float = 1.0) -> Num:
    return gap.below(beta).choose(gap * gap * 0.5 / beta, gap - 0.5 * beta) if beta else gap


def huber(gap: Num, delta: float = 1.0) -> Num:
    return gap.of(Op.LE, delta).choose(gap * gap * 0.5, (gap - 0.5 * delta) * delta)


def loss(of_gap: Callable[..., Num], rounds_gap: bool = True) -> Callable[..., Value]:
    """Rule for a loss: a formula of |x - y|, which may be rounded, then its mean, its sum, or neither."""

    def rule(
        scope: Scope, node: TraceNode, x: Value, y: Value, reduction: int = MEAN, *rest: float,
        **named: float,
    ) -> Value:  # fmt: skip
        kept = node.dtype if rounds_gap else None
        gaps = computed(scope, lambda a, b: abs(a - b), x, y, dtype=kept)
        terms = computed(scope, lambda n: of_gap(n, *rest, **named), gaps, dtype=node.dtype)
        if reduction == NONE:
            return terms
        dims = dims_of(terms, None)
        if reduction == MEAN:
            return scope.rounded(mean_of(scope, terms, dims, False), node.dtype)
        return scope.rounded(reduced(scope, Op.REDUCE_SUM, terms, dims, False), node.dtype)

    return rule


def distance(scope: Scope, node: TraceNode, x: Value, y: Value, p: float = 2) -> Value:
    gap = computed(scope, lambda a, b: a - b, x, y, dtype=x.dtype)
    return vector_norm(scope, node, gap, p)


def pairwise_distance(
    scope: Scope, node: TraceNode, x: Value, y: Value, p: float = 2, *_: Any
) -> Value:
    """Rule for cdist: the distance of every row of x from every row of y."""
    rank = len(x.dims)
    gaps = computed(
        scope, lambda a, b: a - b, with_ones(x, [rank - 1]), with_ones(y, [rank - 2]), dtype=x.dtype
    )
    return vector_norm(scope, node, gaps, p, [rank])


def log_softmax(scope: Scope, node: TraceNode, x: Value, dim: int, *_: Any) -> Value:
    dims = dims_of(x, dim)
    top = reduced(scope, Op.REDUCE_MAX, x, dims, True)
    grown = computed(scope, lambda a, t: exp(a - t), x, top, dtype=None)
    # Along the last direction torch rounds the sum and its logarithm, along others neither.
    kept = x.dtype if dims == [len(x.dims) - 1] else None
    below = scope.rounded(reduced(scope, Op.REDUCE_SUM, grown, dims, True), kept)
    logs = computed(scope, log, below, dtype=kept)
    return computed(scope, lambda a, t, b: a - t - b, x, top, logs, dtype=node.dtype)


def layer_norm(
    scope: Scope, node: TraceNode, x: Value, shape: list[int], weight: Any, bias: Any, eps: float
) -> list[Value]:
    """Rule for [normalised, mean, 1 / deviation], over the last dimensions."""
    dims = list(range(len(x.dims) - len(shape), len(x.dims)))
    spread, middle = variance(scope, x, dims, 0, True)
    rate = computed(scope, lambda v: 1.0 / sqrt(v + eps), spread, dtype=None)
    found = computed(scope, lambda a, m, r: (a - m) * r, x, middle, rate, dtype=None)
    if weight is not None:
        found = computed(scope, Num.__mul__, found, weight, dtype=None)
    if bias is not None:
        found = computed(scope, Num.__add__, found, bias, dtype=None)
    return [scope.rounded(one, x.dtype) for one in (found, middle, rate)]


def running(op: Op) -> Callable[..., Value]:
    """Rule for running results along a small axis, such as products."""

    def rule(scope: Scope, node: TraceNode, x: Value, dim: int, **_: Any) -> Value:
        check_arithmetic(scope, node.dtype)
        position, columns = small_axis(scope, x, dim)
        out = columns.copy()
        for k in range(1, len(columns)):
            for index in np.ndindex(columns.shape[1:]):
                before, mine = int(out[(k - 1, *index)]), int(columns[(k, *index)])
                out[(k, *index)] = scope.emit(op, before, mine)
        value = Value(x.dims, np.moveaxis(out, 0, position), node.dtype)
        return scope.rounded(value, node.dtype)

    return rule


def nan_sum(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    clean = each(lambda n: scope.emit(Op.WHERE, is_nan(scope, n), scope.const(0.0), n), x.cells)
    dims = dims_of(x, dim)
    value = reduced(scope, Op.REDUCE_SUM, Value(x.dims, clean, x.dtype), dims, keepdim)
    return scope.rounded(value, node.dtype)


def extremes(
    scope: Scope, node: TraceNode, x: Value, *, dim: Any = None, keepdim: bool = False
) -> list[Value]:
    """Rule for aminmax: [smallest, largest]."""
    return [amount(op)(scope, node, x, dim, keepdim) for op in (Op.REDUCE_MIN, Op.REDUCE_MAX)]


RULES: dict[str, Callable[..., Any]] = {
    "aten.mse_loss": loss(square),
    "aten.smooth_l1_loss": loss(smooth),
    "aten.huber_loss": loss(huber, rounds_gap=False),
    "aten.dist": distance,
    "aten._cdist_forward": pairwise_distance,
    "aten._log_softmax": log_softmax,
    "aten.native_layer_norm": layer_norm,
    "aten.cumprod": running(Op.MUL),
    "aten.nansum": nan_sum,
    "aten.aminmax": extremes,
}
