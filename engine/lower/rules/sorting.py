"""Rules about order: extremes with their places, medians, k-th values, sorts over experts.

Along small axes they compare and choose. Over a whole tensor, its rows or its columns they use a
KTH node. Of equal values the earlier one comes first, as in a stable sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce as folded
from typing import Any

import numpy as np
import torch

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..scope import Scope, check_arithmetic, each
from ..value import Axis, Value
from .reductions import depends_on, dims_of, dropped, left_space, reduced, with_ones


def extreme(op: Op) -> Callable[..., Any]:
    """Rule for max and min: of all elements, along a dimension with places, or of two tensors."""
    pick = Op.MAX if op is Op.REDUCE_MAX else Op.MIN

    def rule(
        scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False
    ) -> Any:
        if isinstance(dim, Value):
            return scope.pointwise(lambda a, b: scope.emit(pick, a, b), x, dim, dtype=node.dtype)
        if dim is None:
            return reduced(scope, op, x, dims_of(x, None), False)
        values = reduced(scope, op, x, dims_of(x, dim), keepdim)
        return Pair(values, lambda: place(scope, op, x, dim, keepdim))

    return rule


@dataclass(frozen=True)
class Ranks:
    """Numbers of x in order along a symbolic axis `dim`: the ranks low + 1 to high.

    Only what ranks.py picks from them can be fused.
    """

    x: Value
    dim: int
    low: int
    high: int
    descending: bool

    def rank(self, index: int) -> int:
        """The rank, which counts from 1, at an index."""
        return self.high - index if self.descending else self.low + 1 + index


class Pair:
    """A result (values, indices). The indices are worked out only if they are read."""

    def __init__(self, values: Any, indices: Callable[[], Value]) -> None:
        self._values, self._indices = values, indices

    def __getitem__(self, index: int) -> Any:
        return self._values if index == 0 else self._indices()


def amount(op: Op) -> Callable[..., Value]:
    """Rule for amax and amin."""

    def rule(
        scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False
    ) -> Value:
        return reduced(scope, op, x, dims_of(x, dim), keepdim)

    return rule


def place(scope: Scope, op: Op, x: Value, dim: Any, keepdim: bool) -> Value:
    """The first place of an extreme along a small axis, as argmax and argmin give it."""
    position, columns = small_axis(scope, x, dim)
    largest = op is Op.REDUCE_MAX
    out = np.empty(columns.shape[1:], dtype=np.int64)
    for index in np.ndindex(out.shape):
        best, where = int(columns[(0, *index)]), scope.const(0.0)
        for k in range(1, len(columns)):
            other = int(columns[(k, *index)])
            wins = beats(scope, other, best, largest)
            best = scope.emit(Op.WHERE, wins, other, best)
            where = scope.emit(Op.WHERE, wins, scope.const(k), where)
        out[index] = where
    return along(x, dim, np.expand_dims(out, position), 1, torch.int64, keepdim)


def argument(op: Op) -> Callable[..., Value]:
    def rule(
        scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False
    ) -> Value:
        if dim is None:
            if len(x.dims) != 1:
                scope.fail("the place of an extreme in a whole tensor")
            dim = 0
        return place(scope, op, x, dim, keepdim)

    return rule


def small_axis(scope: Scope, x: Value, dim: int) -> tuple[int, np.ndarray]:
    """The axis of the cells that a small dimension is, and the cells with that axis first."""
    dim %= max(1, len(x.dims))
    if not x.dims or not isinstance(x.dims[dim], int):
        scope.fail("places along rows or columns")
    if x.dims[dim] == 0:
        scope.fail("an order of no numbers")
    position = x.small_position(dim)
    return position, np.moveaxis(x.cells, position, 0)


def along(
    x: Value,
    dim: int,
    cells: np.ndarray,
    size: int,
    dtype: torch.dtype | None,
    keepdim: bool = True,
) -> Value:
    """The value with other cells, whose small dimension `dim` has another size."""
    dim %= len(x.dims)
    value = Value((*x.dims[:dim], size, *x.dims[dim + 1 :]), cells, dtype)
    return value if keepdim else dropped(value, [dim])


# ---- sorting networks over experts ---------------------------------------------------------------


def ordered(scope: Scope, x: Value, dim: int, descending: bool) -> tuple[Value, Value]:
    """(sorted values, places) by insertion, which takes n (n - 1) / 2 compare-exchanges."""
    position, columns = small_axis(scope, x, dim)
    values, places = columns.copy(), np.empty_like(columns)
    for index in np.ndindex(columns.shape[1:]):
        mine = [(int(columns[(k, *index)]), scope.const(k)) for k in range(len(columns))]
        for i in range(1, len(mine)):
            for j in range(i, 0, -1):
                mine[j - 1], mine[j] = exchange(scope, mine[j - 1], mine[j], descending)
        for k, (value, where) in enumerate(mine):
            values[(k, *index)], places[(k, *index)] = value, where
    size = len(columns)
    back = (np.moveaxis(grid, 0, position) for grid in (values, places))
    made = [along(x, dim, cells, size, x.dtype) for cells in back]
    return made[0], Value(made[1].dims, made[1].cells, torch.int64)


def is_below(scope: Scope, a: int, b: int) -> int:
    """1 if a < b, where NaN counts as the largest number."""
    if scope.is_finite(a) and scope.is_finite(b):
        return scope.emit(Op.LT, a, b)
    above = scope.emit(Op.EQ, scope.emit(Op.LE, b, a), scope.const(0.0))
    return scope.emit(Op.MUL, above, scope.emit(Op.EQ, a, a))


def beats(scope: Scope, other: int, best: int, largest: bool) -> int:
    """1 if a later number replaces an extreme. The first NaN is the extreme and is not replaced."""
    if scope.is_finite(other) and scope.is_finite(best):
        return scope.emit(Op.LT, *((best, other) if largest else (other, best)))
    reached = scope.emit(Op.LE, *((other, best) if largest else (best, other)))
    keeps = scope.emit(Op.EQ, reached, scope.const(0.0))
    return scope.emit(Op.MUL, keeps, scope.emit(Op.EQ, best, best))


def exchange(
    scope: Scope, first: tuple[int, int], second: tuple[int, int], descending: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    low, high = (first, second) if descending else (second, first)
    swap = is_below(scope, low[0], high[0])

    def choose(yes: int, no: int) -> int:
        return scope.emit(Op.WHERE, swap, yes, no)

    ahead = choose(second[0], first[0]), choose(second[1], first[1])
    return ahead, (choose(first[0], second[0]), choose(first[1], second[1]))


def sort(scope: Scope, node: TraceNode, x: Value, *words: Any, **named: Any) -> Any:
    """Rule for sort.default(x, dim, descending) and sort.stable(x, stable=, dim=, descending=)."""
    dim = named.get("dim", words[0] if words else -1) % max(1, len(x.dims))
    descending = bool(named.get("descending", words[1] if len(words) > 1 else False))
    if x.dims and isinstance(x.dims[dim], Axis):
        size = scope.length(x.dims[dim])
        return Pair(Ranks(x, dim, 0, size, descending), lambda: scope.fail("places along an axis"))
    return list(ordered(scope, x, dim, descending))


def topk(
    scope: Scope, node: TraceNode, x: Value, k: int, dim: int = -1, largest: bool = True, *_: Any
) -> Any:
    dim %= max(1, len(x.dims))
    if x.dims and isinstance(x.dims[dim], Axis):
        size = scope.length(x.dims[dim])
        low, high = (size - k, size) if largest else (0, k)
        return Pair(Ranks(x, dim, low, high, largest), lambda: scope.fail("places along an axis"))
    position, _columns = small_axis(scope, x, dim)
    found = ordered(scope, x, dim, largest)
    return [along(x, dim, v.cells.take(range(k), position), k, v.dtype) for v in found]


def kth(scope: Scope, x: Value, k: int, dims: list[int], keepdim: bool) -> Value:
    """The k-th smallest number over symbolic axes, by a KTH node."""
    if k < 1:
        scope.fail("the number at no rank")
    axes = [x.dims[d] for d in dims if x.dims[d] != 1]
    if not all(isinstance(a, Axis) for a in axes):
        scope.fail("an order statistic over experts and a tensor at once")
    mask = scope.mask(tuple(axes))
    kinds = {a.kind for a in axes if isinstance(a, Axis)}
    kinds = {"rows", "cols"} if "flat" in kinds else kinds

    def one(cell: int) -> int:
        # Outside the mask is NaN, which counts as the largest: it is never among the k smallest.
        if mask is not None:
            cell = scope.emit(Op.WHERE, mask, cell, scope.const(math.nan))
        depends = depends_on(scope, cell)
        if not depends & kinds:
            return cell
        copies = math.prod(scope.rows if a == "rows" else scope.cols for a in kinds - depends)
        return scope.emit(Op.KTH, cell, attrs=(-(-k // copies),), space=left_space(depends - kinds))

    ones = dropped(x, [d for d in dims if x.dims[d] == 1])
    left = tuple(d for i, d in enumerate(x.dims) if i not in dims)
    value = Value(left, each(one, ones.cells), x.dtype)
    return with_ones(value, sorted(dims)) if keepdim else value


def kthvalue(
    scope: Scope, node: TraceNode, x: Value, k: int, dim: int = -1, keepdim: bool = False
) -> Pair:
    dim = scope.place(len(x.dims), dim)
    if isinstance(x.dims[dim], int):
        values, places = ordered(scope, x, dim, False)
        return pick(x, values, places, k - 1, dim, keepdim)
    return Pair(kth(scope, x, k, [dim], keepdim), lambda: scope.fail("the place of a k-th value"))


def pick(x: Value, values: Value, places: Value, index: int, dim: int, keepdim: bool) -> Pair:
    """The sorted value and its place at one index."""
    position = x.small_position(dim)

    def taken(v: Value) -> Value:
        return along(x, dim, v.cells.take([index], position), 1, v.dtype, keepdim)

    return Pair(taken(values), lambda: taken(places))


def median(scope: Scope, node: TraceNode, x: Value, dim: Any = None, keepdim: bool = False) -> Any:
    """Rule for the median: the lower one of two middle values, as in torch."""
    if dim is None:
        if len(x.dims) == 1 and isinstance(x.dims[0], int):
            return median(scope, node, x, 0)[0]
        count = int(np.prod([scope.length(d) for d in x.dims]))
        dims = list(range(len(x.dims)))
        return or_nan(scope, kth(scope, x, (count + 1) // 2, dims, False), x, dims, False)
    dim = scope.place(len(x.dims), dim)
    count = scope.length(x.dims[dim])
    found = kthvalue(scope, node, x, (count + 1) // 2, dim, keepdim)
    return Pair(or_nan(scope, found[0], x, [dim], keepdim), lambda: found[1])


def or_nan(scope: Scope, found: Value, x: Value, dims: list[int], keepdim: bool) -> Value:
    """The result `found`, or NaN where one of the numbers is NaN."""
    if all(scope.is_finite(int(cell)) for cell in x.cells.flat):
        return found
    top = reduced(scope, Op.REDUCE_MAX, x, dims, keepdim)

    def formula(value: int, most: int) -> int:
        return scope.emit(Op.WHERE, scope.emit(Op.NE, most, most), most, value)

    return scope.pointwise(formula, found, top, dtype=x.dtype)


def cumsum(scope: Scope, node: TraceNode, x: Value, dim: int, **_: Any) -> Value:
    check_arithmetic(scope, node.dtype)
    position, columns = small_axis(scope, x, dim)
    out = columns.copy()
    for k in range(1, len(columns)):
        for index in np.ndindex(columns.shape[1:]):
            before, mine = int(out[(k - 1, *index)]), int(columns[(k, *index)])
            out[(k, *index)] = scope.emit(Op.ADD, before, mine)
    return scope.rounded(Value(x.dims, np.moveaxis(out, 0, position), node.dtype), node.dtype)


def running_extreme(op: Op) -> Callable[..., Pair]:
    """Rule for cummax and cummin along a small axis."""
    pick = Op.MAX if op is Op.REDUCE_MAX else Op.MIN

    def rule(scope: Scope, node: TraceNode, x: Value, dim: int) -> Pair:
        position, columns = small_axis(scope, x, dim)
        out = columns.copy()
        for k in range(1, len(columns)):
            for index in np.ndindex(columns.shape[1:]):
                before, mine = int(out[(k - 1, *index)]), int(columns[(k, *index)])
                out[(k, *index)] = scope.emit(pick, before, mine)
        values = Value(x.dims, np.moveaxis(out, 0, position), x.dtype)
        return Pair(values, lambda: scope.fail("the places of running extremes"))

    return rule


def mode(scope: Scope, node: TraceNode, x: Value, dim: int = -1, keepdim: bool = False) -> Pair:
    """Rule for the most frequent value along a small axis; of several, the smallest."""
    values, _ = ordered(scope, x, dim, False)
    position, columns = small_axis(scope, values, dim)
    if not all(scope.is_finite(int(n)) for n in columns.flat):
        scope.fail("the most frequent of numbers that may be NaN")
    out = np.empty(columns.shape[1:], dtype=np.int64)
    for index in np.ndindex(out.shape):
        out[index] = most_frequent(scope, [int(n) for n in columns[(slice(None), *index)]])
    found = along(x, dim, np.expand_dims(out, position), 1, x.dtype, keepdim)
    return Pair(found, lambda: scope.fail("the place of the most frequent value"))


def most_frequent(scope: Scope, numbers: list[int]) -> int:
    """The most frequent of numbers in ascending order; of several, the first."""
    counts = [
        folded(lambda a, b: scope.emit(Op.ADD, a, b), (scope.emit(Op.EQ, n, m) for m in numbers))
        for n in numbers
    ]
    best, most = numbers[0], counts[0]
    for number, count in zip(numbers[1:], counts[1:], strict=True):
        more = scope.emit(Op.LT, most, count)
        best = scope.emit(Op.WHERE, more, number, best)
        most = scope.emit(Op.WHERE, more, count, most)
    return best


RULES: dict[str, Callable[..., Any]] = {
    "aten.max": extreme(Op.REDUCE_MAX),
    "aten.min": extreme(Op.REDUCE_MIN),
    "aten.amax": amount(Op.REDUCE_MAX),
    "aten.amin": amount(Op.REDUCE_MIN),
    "aten.argmax": argument(Op.REDUCE_MAX),
    "aten.argmin": argument(Op.REDUCE_MIN),
    "aten.sort": sort,
    "aten.topk": topk,
    "aten.kthvalue": kthvalue,
    "aten.median": median,
    "aten.cumsum": cumsum,
    "aten.cummax": running_extreme(Op.REDUCE_MAX),
    "aten.cummin": running_extreme(Op.REDUCE_MIN),
    "aten.mode": mode,
}
