"""Numbers picked by their place: gathers along experts, look-ups in a small table, buckets.

Along a small axis the place may be any value: the pick is a chain of choices. Nothing is gathered
along rows or columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..scope import Scope
from ..value import Axis, Value
from .elementwise import is_nan
from .masks import chosen
from .reductions import dropped, with_ones
from .sorting import along, small_axis
from .views import index_select


def gather(scope: Scope, node: TraceNode, x: Value, dim: int, index: Value, **_: Any) -> Value:
    """Rule for gather along a small axis: the cell at the place that is asked for."""
    position, columns = small_axis(scope, x, dim)
    dims, grids = scope.align(
        *(slot(x, dim, columns, k, position) for k in range(len(columns))), index
    )
    out = np.empty(grids[-1].shape, dtype=np.int64)
    for i in np.ndindex(out.shape):
        out[i] = looked_up(scope, [int(grid[i]) for grid in grids[:-1]], int(grids[-1][i]))
    return Value(dims, out, x.dtype)


def slot(x: Value, dim: int, columns: np.ndarray, k: int, position: int) -> Value:
    return along(x, dim, np.expand_dims(columns[k], position), 1, x.dtype)


def looked_up(scope: Scope, numbers: list[int], place: int) -> int:
    """The node of numbers[place]."""
    found = numbers[0]
    for k, number in enumerate(numbers[1:], 1):
        here = scope.emit(Op.EQ, place, scope.const(k))
        found = scope.emit(Op.WHERE, here, number, found)
    return found


def index(scope: Scope, node: TraceNode, x: Value, places: Any) -> Value:
    """Rule for x[mask], x[..., places] on a small dimension, table[places], stack[best, rows]."""
    given = [(i, p) for i, p in enumerate(places) if p is not None]
    if len(given) == 2 and given[0][0] == 0 and given[1][0] == 1 and counts_up(scope, given[1][1]):
        return best_of_rows(scope, node, x, given[0][1])
    if len(given) != 1:
        scope.fail("places along several axes")
    dim, place = given[0]
    if place.is_bool:
        return chosen(scope, node, x, place, dim)
    known = all(scope.number_of(int(n)) is not None for n in place.cells.flat)
    if known and len(place.dims) == 1:
        return index_select(scope, node, x, dim, place)
    return table(scope, node, x, place)


def table(scope: Scope, node: TraceNode, x: Value, place: Value) -> Value:
    """numbers[places] with places of any shape. Places below zero count from the end."""
    if len(x.dims) != 1 or not isinstance(x.dims[0], int):
        scope.fail("places that are not known")
    numbers, size = [int(n) for n in x.cells], len(x.cells)

    def formula(at: int) -> int:
        back = scope.emit(Op.ADD, at, scope.const(size))
        forward = scope.emit(Op.WHERE, scope.emit(Op.LT, at, scope.const(0.0)), back, at)
        return looked_up(scope, numbers, forward)

    return scope.pointwise(formula, place, dtype=x.dtype)


def counts_up(scope: Scope, place: Value) -> bool:
    """Tells whether these places are 0, 1, 2, ... as arange makes them."""
    if len(place.dims) == 1 and isinstance(place.dims[0], Axis) and place.dims[0].whole:
        return scope.counting.get(int(place.cells)) == place.dims[0]
    numbers = [scope.number_of(int(n)) for n in place.cells.flat]
    return len(place.dims) == 1 and numbers == list(range(len(numbers)))


def best_of_rows(scope: Scope, node: TraceNode, x: Value, best: Value) -> Value:
    """stack[best, arange(rows)]: each row of the entry that `best` names for it."""
    if len(x.dims) < 2 or best.dims != x.dims[1:2] or not isinstance(x.dims[1], Axis):
        scope.fail("places along several axes")
    rest = len(x.dims) - 2
    wide = with_ones(with_ones(best, [0]), list(range(2, 2 + rest)))
    return dropped(gather(scope, node, x, 0, wide), [0])


def bucketize(
    scope: Scope, node: TraceNode, x: Any, edges: Value, *, right: bool = False, **_: Any
) -> Value:
    """Rule for bucketize: how many of the ascending edges lie below x, or also at x if `right`."""
    if len(edges.dims) != 1 or not isinstance(edges.dims[0], int):
        scope.fail("edges along rows or columns")
    op = Op.LE if right else Op.LT

    def formula(number: int, *cells: int) -> int:
        found = scope.const(0.0)
        for edge in cells:
            found = scope.emit(Op.ADD, found, scope.emit(op, edge, number))
        # NaN lies above all edges.
        last = scope.const(float(len(cells)))
        return scope.emit(Op.WHERE, is_nan(scope, number), last, found)

    ones = [Value((), np.array(n), edges.dtype) for n in edges.cells]
    return scope.pointwise(formula, scope.lift(x), *ones, dtype=torch.int64)


def searchsorted(
    scope: Scope, node: TraceNode, edges: Value, x: Any, *, right: bool = False, side: Any = None,
    **_: Any,
) -> Value:  # fmt: skip
    return bucketize(scope, node, x, edges, right=right or side == "right")


RULES: dict[str, Callable[..., Any]] = {
    "aten.index": index,
    "aten.gather": gather,
    "aten.bucketize": bucketize,
    "aten.searchsorted": searchsorted,
}
