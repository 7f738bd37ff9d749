"""Reductions: unrolled over small axes, REDUCE nodes over rows and columns.

A node may depend on fewer axes than its value has, such as a constant that fills a tensor. A sum
over an axis on which the node does not depend is a product with the length of that axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce as folded
from typing import Any

import numpy as np
import torch

from ....kernels.ir import Op, Space
from ...trace.graph import TraceNode
from ..scope import Scope, check_arithmetic, checked, each
from ..value import COLS, Axis, Dim, Value
from .elementwise import raised, truth

IDENTITY = {Op.REDUCE_SUM: 0.0, Op.REDUCE_MAX: -math.inf, Op.REDUCE_MIN: math.inf}
PAIRWISE = {Op.REDUCE_SUM: Op.ADD, Op.REDUCE_MAX: Op.MAX, Op.REDUCE_MIN: Op.MIN}


def dims_of(value: Value, dim: Any) -> list[int]:
    """Positions of the dimensions to reduce; all of them for None or an empty list."""
    rank = len(value.dims)
    if dim is None or dim == []:
        return list(range(rank))
    return sorted({d % rank for d in ([dim] if isinstance(dim, int) else dim)}) if rank else []


def count_of(scope: Scope, value: Value, dims: Sequence[int]) -> int:
    return math.prod(scope.length(value.dims[d]) for d in dims)


def reduced(
    scope: Scope, op: Op, value: Value, dims: Sequence[int], keepdim: bool,
    empty: float | None = None,
) -> Value:  # fmt: skip
    """The value reduced over its symbolic axes first, then over the small ones.

    `empty` is the result for no numbers where it is not the op's own.
    """
    axes = [d for d in dims if isinstance(value.dims[d], Axis)]
    value = over_axes(scope, op, value, axes)
    small = [d for d in dims if d not in axes]
    positions = tuple(value.small_position(d) for d in small)
    cells = value.cells
    if positions:
        nothing = scope.const(IDENTITY[op] if empty is None else empty)
        cells = fold_cells(cells, positions, lambda a, b: scope.emit(PAIRWISE[op], a, b), nothing)
        cells = np.expand_dims(cells, positions)
    kept = Value(tuple(1 if d in dims else x for d, x in enumerate(value.dims)), cells, value.dtype)
    return kept if keepdim else dropped(kept, dims)


def dropped(value: Value, dims: Sequence[int]) -> Value:
    """The value without these dimensions, which have size 1."""
    positions = tuple(value.small_position(d) for d in dims)
    cells = value.cells.squeeze(positions) if positions else value.cells
    return Value(tuple(x for d, x in enumerate(value.dims) if d not in dims), cells, value.dtype)


def over_axes(scope: Scope, op: Op, value: Value, axes: Sequence[int]) -> Value:
    """The value reduced over these symbolic axes, which become dimensions of size 1."""
    if not axes:
        return value
    mine = [x for d, x in enumerate(value.dims) if d in axes and isinstance(x, Axis)]
    mask = scope.mask(tuple(mine))
    cells = each(lambda n: reduce_node(scope, op, n, mine, mask), value.cells)
    dims: list[Dim] = []
    for d, x in enumerate(value.dims):
        if d in axes:
            cells = np.expand_dims(cells, sum(isinstance(y, int) for y in dims))
            dims.append(1)
        else:
            dims.append(x)
    return Value(tuple(dims), cells, value.dtype)


def reduce_node(scope: Scope, op: Op, node: int, axes: list[Axis], mask: int | None) -> int:
    if mask is not None:
        node = scope.emit(Op.WHERE, mask, node, scope.const(IDENTITY[op]))
    kinds, factor = {axis.kind for axis in axes}, 1
    depends = depends_on(scope, node)
    if "flat" in kinds:
        kinds = {"rows", "cols"}
    for kind in kinds - depends:
        factor *= scope.rows if kind == "rows" else scope.cols
    if depends & kinds:
        node = scope.emit(op, node, space=left_space(depends - kinds))
    if op is Op.REDUCE_SUM and factor > 1:
        node = scope.emit(Op.MUL, node, scope.const(factor))
    return node


def depends_on(scope: Scope, node: int) -> set[str]:
    """The axes along which a node's value changes."""
    both = {"cols"} if scope.axes == (COLS,) else {"rows", "cols"}
    space = scope.builder.nodes[node].space
    return {Space.SCALAR: set[str](), Space.ROW: {"rows"}, Space.COL: {"cols"}, Space.FULL: both}[
        space
    ]


def left_space(kinds: set[str]) -> Space:
    """The space of a reduced value that still changes along these axes."""
    return Space.ROW if kinds == {"rows"} else Space.COL if kinds == {"cols"} else Space.SCALAR


def fold_cells(
    cells: np.ndarray, positions: tuple[int, ...], combine: Callable[[int, int], int], nothing: int
) -> np.ndarray:
    """The cells combined along these axes, in order; `nothing` where there are none."""
    moved = np.moveaxis(cells, positions, range(len(positions)))
    count = math.prod(moved.shape[: len(positions)])
    rows = moved.reshape(count, *moved.shape[len(positions) :])
    if not count:
        return np.full(rows.shape[1:], nothing, dtype=np.int64)
    out = np.empty(rows.shape[1:], dtype=np.int64)
    for index in np.ndindex(out.shape):
        out[index] = folded(combine, (int(n) for n in rows[(slice(None), *index)]))
    return out


# ---- sums and what is made of them ---------------------------------------------------------------


def total(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    check_arithmetic(scope, node.dtype)
    value = reduced(scope, Op.REDUCE_SUM, x, dims_of(x, dim), keepdim)
    return scope.rounded(value, node.dtype)


def scaled(scope: Scope, value: Value, factor: float) -> Value:
    number = scope.const(factor)
    return Value(
        value.dims, each(lambda n: scope.emit(Op.DIV, n, number), value.cells), value.dtype
    )


def mean_of(scope: Scope, x: Value, dims: Sequence[int], keepdim: bool) -> Value:
    value = reduced(scope, Op.REDUCE_SUM, x, dims, keepdim)
    return scaled(scope, value, count_of(scope, x, dims))


def mean(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    return scope.rounded(mean_of(scope, x, dims_of(x, dim), keepdim), node.dtype)


def variance(
    scope: Scope, x: Value, dim: Any, correction: Any, keepdim: bool
) -> tuple[Value, Value]:
    """(variance, mean), in two passes, since eager's result is that of two passes."""
    dims = dims_of(x, dim)
    start = first_number(x, dims)
    if start is not None:
        x = scope.pointwise(lambda a, s: scope.emit(Op.SUB, a, s), x, start, dtype=None)
    middle = mean_of(scope, x, dims, True)
    # Not rounded on the way: torch computes in float32 and rounds half precision once.
    away = scope.pointwise(lambda a, m: square_of_difference(scope, a, m), x, middle, dtype=None)
    away = Value(x.dims, np.broadcast_to(away.cells, x.cells.shape), x.dtype)
    squares = reduced(scope, Op.REDUCE_SUM, away, dims, keepdim)
    correction = 1 if correction is None else correction
    count = max(0.0, count_of(scope, x, dims) - correction)
    found = scaled(scope, squares, count)
    if start is not None:
        middle = scope.pointwise(lambda m, s: scope.emit(Op.ADD, m, s), middle, start, dtype=None)
    return found, middle if keepdim else dropped(middle, dims)


def first_number(x: Value, dims: Sequence[int]) -> Value | None:
    """The first of the numbers along small dimensions; None where there is an axis, or no number.

    Distances to it are zero where all numbers are equal, so that their variance is too, as in torch.
    """
    if not dims or not all(isinstance(x.dims[d], int) and x.dims[d] for d in dims):
        return None
    cells = x.cells
    for d in dims:
        cells = cells.take([0], axis=x.small_position(d))
    return Value(tuple(1 if d in dims else n for d, n in enumerate(x.dims)), cells, x.dtype)


def square_of_difference(scope: Scope, a: int, b: int) -> int:
    away = scope.emit(Op.SUB, a, b)
    return scope.emit(Op.MUL, away, away)


def spread_rule(root: bool, both: bool) -> Callable[..., Any]:
    def rule(
        scope: Scope,
        node: TraceNode,
        x: Value,
        dim: Any = None,
        *,
        correction: Any = 1,
        keepdim: bool = False,
    ) -> Any:
        found, middle = variance(scope, x, dim, correction, keepdim)
        if root:
            found = Value(found.dims, each(lambda n: scope.emit(Op.SQRT, n), found.cells), x.dtype)
        found = scope.rounded(found, x.dtype)
        return [found, scope.rounded(middle, x.dtype)] if both else found

    return rule


def vector_norm(
    scope: Scope,
    node: TraceNode,
    x: Value,
    order: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    **_: Any,
) -> Value:
    dims, order = dims_of(x, dim), float(order)
    size = Value(x.dims, each(lambda n: scope.emit(Op.ABS, n), x.cells), x.dtype)
    if math.isinf(order):
        op = Op.REDUCE_MAX if order > 0 else Op.REDUCE_MIN
        return scope.rounded(reduced(scope, op, size, dims, keepdim), node.dtype)
    terms = each(lambda n: norm_term(scope, n, order), size.cells)
    value = reduced(scope, Op.REDUCE_SUM, Value(x.dims, terms, x.dtype), dims, keepdim)
    if order not in (0.0, 1.0):
        value = Value(value.dims, each(lambda n: raised(scope, n, 1 / order), value.cells), x.dtype)
    return scope.rounded(value, node.dtype)


def any_norm(
    scope: Scope, node: TraceNode, x: Value, order: Any = 2, dim: Any = None, keepdim: bool = False,
    **_: Any,
) -> Value:  # fmt: skip
    return vector_norm(scope, node, x, 2 if order is None else order, dim, keepdim)


def norm_term(scope: Scope, size: int, order: float) -> int:
    if order == 0.0:
        return truth(scope, size)
    return size if order == 1.0 else raised(scope, size, order)


def any_of(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False
) -> Value:
    bits = Value(x.dims, each(lambda n: truth(scope, n), x.cells), torch.bool)
    return reduced(scope, Op.REDUCE_MAX, bits, dims_of(x, dim), keepdim, empty=0.0)


def all_of(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False
) -> Value:
    bits = Value(x.dims, each(lambda n: truth(scope, n), x.cells), torch.bool)
    return reduced(scope, Op.REDUCE_MIN, bits, dims_of(x, dim), keepdim, empty=1.0)


def count_nonzero(scope: Scope, node: TraceNode, x: Value, dim: Any = None) -> Value:
    bits = Value(x.dims, each(lambda n: truth(scope, n), x.cells), torch.int64)
    return reduced(scope, Op.REDUCE_SUM, bits, dims_of(x, dim), False)


def product(
    scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    dims = dims_of(x, dim)
    check_arithmetic(scope, node.dtype)
    if any(isinstance(x.dims[d], Axis) for d in dims):
        scope.fail("a product over rows or columns")
    positions = tuple(x.small_position(d) for d in dims)
    one = scope.const(1.0)

    def step(a: int, b: int) -> int:
        return scope.round_number(scope.emit(Op.MUL, a, b), node.dtype)

    cells = fold_cells(x.cells, positions, step, one)
    kept = tuple(1 if d in dims else y for d, y in enumerate(x.dims))
    value = Value(kept, np.expand_dims(cells, positions), node.dtype)
    return value if keepdim else dropped(value, dims)


def softmax(scope: Scope, node: TraceNode, x: Value, dim: int, *_: Any) -> Value:
    dims = dims_of(x, dim)
    top = reduced(scope, Op.REDUCE_MAX, x, dims, True)
    grown = scope.pointwise(
        lambda a, b: scope.emit(Op.EXP, scope.emit(Op.SUB, a, b)), x, top, dtype=None
    )
    below = reduced(scope, Op.REDUCE_SUM, grown, dims, True)
    return scope.pointwise(lambda a, b: scope.emit(Op.DIV, a, b), grown, below, dtype=node.dtype)


def logsumexp(scope: Scope, node: TraceNode, x: Value, dim: Any, keepdim: bool = False) -> Value:
    """Rule for logsumexp, whose steps torch rounds one by one. An infinite maximum shifts nothing."""
    dims = dims_of(x, dim)

    def step(formula: Callable[..., int], *values: Value) -> Value:
        return scope.pointwise(formula, *values, dtype=x.dtype)

    top = reduced(scope, Op.REDUCE_MAX, x, dims, True)
    top = step(lambda n: finite_or_zero(scope, n), top)
    away = step(lambda a, b: scope.emit(Op.SUB, a, b), x, top)
    grown = step(lambda n: scope.emit(Op.EXP, n), away)
    below = scope.rounded(reduced(scope, Op.REDUCE_SUM, grown, dims, True), x.dtype)
    logs = step(lambda n: scope.emit(Op.LOG, n), below)
    value = step(lambda a, b: scope.emit(Op.ADD, a, b), logs, top)
    return value if keepdim else dropped(value, dims)


def finite_or_zero(scope: Scope, n: int) -> int:
    if scope.is_finite(n):
        return n
    endless = scope.emit(Op.EQ, scope.emit(Op.ABS, n), scope.const(math.inf))
    return scope.emit(Op.WHERE, endless, scope.const(0.0), n)


# ---- inner products ------------------------------------------------------------------------------


def inner(scope: Scope, node: TraceNode, x: Value, y: Value) -> Value:
    """Rule for products of matrices and vectors, as sums of products, if no axis occurs twice."""
    check_arithmetic(scope, node.dtype)
    # [..., n, k, 1] times [..., 1, k, m]
    left = with_ones(x, [len(x.dims)]) if len(y.dims) > 1 else x
    right = with_ones(y, [len(y.dims) - 2]) if len(y.dims) > 1 else y
    inside = len(left.dims) - (2 if len(y.dims) > 1 else 1)
    terms = scope.pointwise(lambda a, b: scope.emit(Op.MUL, a, b), left, right, dtype=None)
    value = reduced(scope, Op.REDUCE_SUM, checked(scope, terms), [inside], False)
    return scope.rounded(value, node.dtype)


def added_inner(
    scope: Scope, node: TraceNode, base: Value, x: Value, y: Value, *, beta: float = 1,
    alpha: float = 1,
) -> Value:  # fmt: skip
    """Rule for addmm and the like: beta * base + alpha * (x @ y)."""
    product = inner(scope, node, x, y)

    def formula(b: int, p: int) -> int:
        scaled_base = scope.emit(Op.MUL, b, scope.const(beta))
        return scope.emit(Op.ADD, scaled_base, scope.emit(Op.MUL, p, scope.const(alpha)))

    return scope.pointwise(formula, base, product, dtype=node.dtype)


def with_ones(x: Value, places: list[int]) -> Value:
    """The value with dimensions of size 1 inserted at these places."""
    dims, cells = list(x.dims), x.cells
    for place in places:
        cells = np.expand_dims(cells, sum(isinstance(d, int) for d in dims[:place]))
        dims.insert(place, 1)
    return Value(tuple(dims), cells, x.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "aten.sum": total,
    "aten.mean": mean,
    "aten.var.correction": spread_rule(False, False),
    "aten.std.correction": spread_rule(True, False),
    "aten.var_mean.correction": spread_rule(False, True),
    "aten.std_mean.correction": spread_rule(True, True),
    "aten.linalg_vector_norm": vector_norm,
    "aten.norm": any_norm,
    "aten.any": any_of,
    "aten.all": all_of,
    "aten.count_nonzero": count_nonzero,
    "aten.prod": product,
    "aten._softmax": softmax,
    "aten.logsumexp": logsumexp,
    "aten.dot": inner,
    "aten.vdot": inner,
    "aten.mm": inner,
    "aten.mv": inner,
    "aten.bmm": inner,
    "aten.addmm": added_inner,
    "aten.addmv": added_inner,
    "aten.baddbmm": added_inner,
}
