"""Ops that depend on an element's place: arange, linspace, triangles, the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ....kernels.ir import Op, Space
from ...trace.graph import TraceNode
from ..number import Num
from ..scope import Scope, cell
from ..value import COLS, ROWS, Axis, Value

MAX_EXACT = 1 << 24  # float32 holds every whole number up to this


def position(scope: Scope, axis: Axis) -> Num:
    """The row, the column or the flat place of each element, as a number from 0."""
    if scope.full_length(axis) > MAX_EXACT:
        scope.fail("positions beyond what float32 counts")
    if axis.kind == "flat":
        # They are whole numbers, in whatever dtype the program has them.
        care, scope.care = scope.care, torch.int64
        found = position(scope, ROWS) * scope.cols + position(scope, COLS)
        scope.care = care
    else:
        space = Space.ROW if axis.kind == "rows" else Space.COL
        found = Num(scope, scope.emit(Op.INDEX, space=space))
    scope.counting[found.index] = axis
    return found


def progression(scope: Scope, node: TraceNode, start: float, step: float) -> Value:
    """start, start + step, ... along an axis of that length, or as a few single numbers."""
    assert node.shape is not None and len(node.shape) == 1
    (count,) = node.shape
    by_length = {scope.full_length(axis): axis for axis in scope.axes}
    if count in by_length:
        axis = by_length[count]
    elif count <= 64:
        cells = np.array([scope.const(start + step * i) for i in range(count)], dtype=np.int64)
        return Value((count,), cells, node.dtype)
    else:
        scope.fail(f"positions along an axis of {count}")
    found = position(scope, axis)
    if (start, step) != (0, 1):
        found = found * step + start
    return scope.rounded(Value((axis,), cell(found.index), node.dtype), node.dtype)


def floats(node: TraceNode) -> bool:
    return node.dtype is None or node.dtype.is_floating_point


def arange(scope: Scope, node: TraceNode, *bounds: Any, **_: Any) -> Value:
    """Rule for arange(end), arange(start, end) and arange(start, end, step)."""
    if not floats(node) and not all(isinstance(bound, int) for bound in bounds):
        scope.fail("whole numbers between bounds that are none")
    start = bounds[0] if len(bounds) > 1 else 0
    step = bounds[2] if len(bounds) > 2 else 1
    return progression(scope, node, start, step)


def linspace(
    scope: Scope, node: TraceNode, start: Any, end: Any, steps: int, *_: Any, **__: Any
) -> Value:
    """Rule for linspace. As in torch, the second half counts back from the end, so that both ends are exact."""
    if isinstance(start, Value) or isinstance(end, Value):
        scope.fail("bounds that are tensors")
    if node.dtype not in (torch.float32, torch.float64):
        scope.fail(f"evenly spaced numbers in {node.dtype}")
    assert node.shape is not None
    (count,) = node.shape
    # torch computes the step in the result's dtype.
    number = np.float64 if node.dtype is torch.float64 else np.float32
    step = float((number(end) - number(start)) / number(max(1, steps - 1)))
    first = progression(scope, node, float(start), step)
    left = progression(scope, node, float(count - 1), -1.0)
    middle = scope.number(count // 2)
    places = progression(scope, node, 0, 1)

    def formula(place: int, half: int, low: int, rest: int) -> int:
        high = scope.emit(Op.SUB, scope.const(end), scope.emit(Op.MUL, rest, scope.const(step)))
        return scope.emit(Op.WHERE, scope.emit(Op.LT, place, half), low, high)

    found = scope.pointwise(formula, places, middle, first, left, dtype=node.dtype)
    scope.ramps |= {int(n) for n in found.cells.flat if scope.number_of(int(n)) is None}
    return found


def triangle(keeps: Callable[[Num, int], Num]) -> Callable[..., Value]:
    """Rule for tril and triu: x on one side of a diagonal, 0 on the other."""

    def rule(scope: Scope, node: TraceNode, x: Value, diagonal: int = 0) -> Value:
        if len(x.dims) == 2 and all(isinstance(d, int) for d in x.dims):
            return small_triangle(scope, x, node.op, diagonal)
        if x.dims[-2:] != (ROWS, COLS):
            scope.fail("a triangle of other axes than rows and columns")
        kept = keeps(position(scope, COLS) - position(scope, ROWS), diagonal)
        return scope.pointwise(lambda n: kept.choose(Num(scope, n), 0.0).index, x, dtype=node.dtype)

    return rule


def small_triangle(scope: Scope, x: Value, op: str, diagonal: int) -> Value:
    """tril or triu of a small matrix, such as the Gram matrix of experts."""
    shape, zero = x.cells.shape, scope.const(0.0)
    keep = np.tri(*shape, k=diagonal if "tril" in op else diagonal - 1, dtype=bool)
    return Value(x.dims, np.where(keep == ("tril" in op), x.cells, zero), x.dtype)


def eye(scope: Scope, node: TraceNode, *_: Any, **__: Any) -> Value:
    if node.shape != scope.shape or len(scope.shape) != 2:
        scope.fail(f"an identity of {node.shape}")
    same = position(scope, ROWS).equals(position(scope, COLS))
    return Value(scope.axes, cell(same.index), node.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "aten.arange": arange,
    "aten.linspace": linspace,
    "aten.tril": triangle(lambda gap, diagonal: gap.of(Op.LE, float(diagonal))),
    "aten.triu": triangle(lambda gap, diagonal: gap.above(float(diagonal) - 0.5)),
    "aten.eye": eye,
}
