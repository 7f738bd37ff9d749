"""Choices by a mask: x[mask] is x on the part of its axes where the mask holds.

What is computed from x[mask] (element-wise, sums, medians) counts only there, and `x[mask] = ...`
with the same mask is a choice between old and new. Nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..scope import Scope
from ..value import COLS, FLAT, ROWS, Axis, Dim, Value

WHOLE = {(ROWS, COLS): FLAT, (FLAT,): FLAT, (ROWS,): ROWS, (COLS,): COLS}


def masked_select(scope: Scope, node: TraceNode, x: Value, mask: Value) -> Value:
    return chosen(scope, node, x, mask, 0)


def chosen(scope: Scope, node: TraceNode, x: Value, mask: Value, dim: int) -> Value:
    """x[mask]: the dimensions that the mask covers become one, the part where it holds."""
    if node.shape is None:
        scope.fail("the size of what a mask chooses")
    part = part_where(scope, x.dims[dim : dim + len(mask.dims)], mask, node.shape[dim])
    return Value((*x.dims[:dim], part, *x.dims[dim + len(mask.dims) :]), x.cells, x.dtype)


def part_where(scope: Scope, dims: tuple[Dim, ...], mask: Value, count: int) -> Axis:
    """The part of these dimensions where a mask holds. It has `count` places."""
    axes = tuple(Axis(d.kind) for d in dims if isinstance(d, Axis))
    if mask.dims != dims or len(axes) != len(dims) or axes not in WHOLE:
        scope.fail("a mask over experts, or over other axes than the tensor's")
    inside, held = scope.mask(dims), int(mask.cells.flat[0])
    node = held if inside is None else scope.emit(Op.MUL, inside, held)
    return Axis(WHOLE[axes].kind, mask=node, count=count)


def index_put(
    scope: Scope, node: TraceNode, x: Value, places: Any, values: Value, accumulate: bool = False
) -> Value:
    """Rule for x[mask] = values, if the values come from the same mask or fit everywhere."""
    if len(places) != 1 or not isinstance(places[0], Value) or not places[0].is_bool:
        scope.fail("places that are not known")
    mask = places[0]
    covered, rest = x.dims[: len(mask.dims)], x.dims[len(mask.dims) :]
    if mask.dims != covered or mask.cells.size != 1:
        scope.fail("a mask over experts, or over other axes than the tensor's")
    held = int(mask.cells.flat[0])
    new = whole_again(scope, values, covered, rest, held)

    def formula(old: int, put: int) -> int:
        put = scope.emit(Op.ADD, old, put) if accumulate else put
        return scope.emit(Op.WHERE, held, put, old)

    return scope.pointwise(formula, x, new, dtype=node.dtype)


def whole_again(
    scope: Scope, values: Value, covered: tuple[Dim, ...], rest: tuple[Dim, ...], held: int
) -> Value:
    """Values on a mask's part, as values on the axes that the mask covers."""
    if len(values.dims) <= len(rest):
        return values
    first = values.dims[0]
    inside = scope.mask(covered)
    meant = held if inside is None else scope.emit(Op.MUL, inside, held)
    if isinstance(first, Axis) and first.mask == meant:
        return Value((*covered, *values.dims[1:]), values.cells, values.dtype)
    if first != 1:
        scope.fail("numbers chosen by another mask")
    cells = values.cells.squeeze(0)
    return Value(values.dims[1:], cells, values.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "aten.index_put": index_put,
    "aten.masked_select": masked_select,
}
