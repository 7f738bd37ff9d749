"""The graph that lowering writes, and helpers that all rules use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from ...kernels.compiler.clock import check
from ...kernels.ir import ELEMENTWISE, Builder, Op, Space
from ...kernels.reference import ELEMENTWISE_FORMS
from ...kernels.tensors import matrix_of
from .precision import STEPS, Precision
from .value import COLS, FLAT, ROWS, Axis, Dim, NotFusable, Value

MAX_NODES = 20_000
MAX_CELLS = 4_096  # numbers of one small value
MAX_EMITTED = 1 << 18  # operations on numbers, those that are folded among them
ROUNDING = {torch.float16: Op.ROUND_F16, torch.bfloat16: Op.ROUND_BF16}
AXIS_SPACE = {"rows": Space.ROW, "cols": Space.COL, "flat": Space.FULL}
# Arithmetic in these wraps around, which that of float32 does not.
WRAPS = {torch.uint8, torch.int8, torch.int16}
# What may be -0.0, computed of whole numbers.
SIGNED_ZERO = {
    Op.ADD,
    Op.SUB,
    Op.NEG,
    Op.MUL,
    Op.DIV,
    Op.MOD,
    Op.TRUNC,
    Op.ROUND,
    Op.CEIL,
    Op.WHERE,
}


class Scope:
    """The kernel graph under construction, and the shape of the checkpoint's tensor.

    `shape` is that of the inputs, which have `axes`; kernels see a matrix of `rows` and `cols`.
    """

    def __init__(self, shape: tuple[int, ...], matrix: tuple[int, int] | None = None) -> None:
        if len(shape) not in (1, 2):
            raise NotFusable("input", f"a tensor of {len(shape)} dimensions")
        self.shape, self.op = shape, "input"
        self.rows, self.cols = matrix_of(shape) if matrix is None else matrix
        self.axes = axes_of_inputs(shape, self.rows)
        self.builder = Builder()
        self.precision = Precision(self.builder, (self.rows, self.cols))
        self.counting: dict[int, Axis] = {}  # nodes that are 0, 1, 2, ... along an axis
        # Nodes whose last bit is not torch's: it adds a step's multiples with one rounding.
        self.ramps: set[int] = set()
        # The dtype of the operation that is lowered, if it is float64 or one of whole numbers.
        self.care: torch.dtype | None = None
        self._num_emitted = 0

    def fail(self, why: str) -> NoReturn:
        raise NotFusable(self.op, why)

    # ---- sizes

    def full_length(self, axis: Axis) -> int:
        return {"rows": self.rows, "cols": self.cols, "flat": self.rows * self.cols}[axis.kind]

    def length(self, dim: Dim) -> int:
        """The number of elements along a dimension."""
        if isinstance(dim, int):
            return dim
        if dim.mask is not None:
            return dim.count
        stop = self.full_length(dim) if dim.stop is None else dim.stop
        return max(0, -(-(stop - dim.start) // dim.step))

    def place(self, count: int, at: int) -> int:
        """A place among this many, or a dimension among them, counted from the front."""
        return at % count if -count <= at < count else self.fail(f"place {at} of {count}")

    # ---- nodes

    def emit(
        self, op: Op, *args: int, attrs: tuple[Any, ...] = (), space: Space | None = None
    ) -> int:
        check()
        self._num_emitted += 1
        if self._num_emitted > MAX_EMITTED:
            self.fail(f"more than {MAX_EMITTED} operations on small values")
        numbers = [self.number_of(a) for a in args] if op in ELEMENTWISE else [None]
        if None not in numbers:
            return self.const(fold(op, numbers))
        if len(self.builder.nodes) >= MAX_NODES:
            self.fail(f"more than {MAX_NODES} kernel operations")
        if self.care is None:
            made = self.builder.add(op, *args, attrs=attrs, space=space)
        else:
            made = self.precision.add(self.care, op, args, attrs, space)
        if not self.ramps.isdisjoint(args):
            follow_ramp(self, op, args, made)
        return made

    def number_of(self, index: int) -> float | None:
        """The number of a constant node; None for every other node."""
        node = self.builder.nodes[index]
        return node.attrs[0] if node.op is Op.CONST else None

    def bounds(self, x: int | Value) -> tuple[float, float]:
        """The least and the largest that a number, or a tensor of one number, may be."""
        return (x, x) if isinstance(x, int) else self.precision.facts.range(int(x.cells))

    def is_finite(self, index: int) -> bool:
        """Tells whether a node is certainly no NaN, if the checkpoint holds none."""
        return self.precision.facts.is_finite(index)

    def const(self, value: float) -> int:
        return self.builder.const(float(value))

    def number(self, value: float, dtype: torch.dtype | None = None) -> Value:
        return Value((), cell(self.const(value)), dtype)

    def rounded(self, value: Value, dtype: torch.dtype | None) -> Value:
        """The value as its dtype holds it. half and bfloat16 round after every operation."""
        if dtype not in ROUNDING:
            return Value(value.dims, value.cells, dtype)
        cells = each(lambda n: self.round_number(n, dtype), value.cells)
        return Value(value.dims, cells, dtype)

    def round_number(self, n: int, dtype: torch.dtype | None) -> int:
        op = ROUNDING.get(dtype) if dtype else None
        return n if op is None else self.emit(op, n)

    # ---- element-wise

    def align(self, *values: Value) -> tuple[tuple[Dim, ...], list[np.ndarray]]:
        """Broadcasts: the common dimensions, and each value's cells over the common int ones."""
        values = tuple(without_repeats(self, v, values) for v in values)
        dims = tuple(common(self, values, at) for at in range(-rank_of(values), 0))
        shape = tuple(d for d in dims if isinstance(d, int))
        if (count := math.prod(shape)) > MAX_CELLS:
            self.fail(f"{count} small values to unroll")
        return dims, [np.broadcast_to(v.spread(dims), shape) for v in values]

    def pointwise(
        self, formula: Callable[..., int], *values: Value, dtype: torch.dtype | None
    ) -> Value:
        """Applies formula(node, ...) to every cell, and rounds to the dtype."""
        check_arithmetic(self, dtype)
        if dtype is not None and dtype.is_floating_point:
            values = tuple(with_one_zero(self, v) for v in values)
        if not any(v.cells.ndim for v in values):
            dims = tuple(common(self, values, at) for at in range(-rank_of(values), 0))
            alone = cell(formula(*(int(v.cells) for v in values)))
            return self.rounded(Value(dims, alone, dtype), dtype)
        dims, grids = self.align(*values)
        cells = np.empty(grids[0].shape, dtype=np.int64)
        for index in np.ndindex(cells.shape):
            cells[index] = formula(*(int(grid[index]) for grid in grids))
        return self.rounded(Value(dims, cells, dtype), dtype)

    def lift(self, x: Any) -> Value:
        """A Python number as a value. A value stays as it is."""
        if isinstance(x, Value):
            return x
        if isinstance(x, (bool, int, float)):
            return self.number(x)
        self.fail(f"an argument of type {type(x).__name__}")

    # ---- ranges

    def mask(self, dims: tuple[Dim, ...]) -> int | None:
        """A node that is 1 where all ranges of these dimensions hold, or None without ranges."""
        found = None
        for dim in dims:
            if isinstance(dim, Axis) and not dim.whole:
                node = self.in_range(dim)
                found = node if found is None else self.emit(Op.MUL, found, node)
        return found

    def in_range(self, axis: Axis) -> int:
        """A node that is 1 in the part of its axis and 0 elsewhere."""
        if axis.mask is not None:
            return axis.mask
        stop = self.full_length(axis) if axis.stop is None else axis.stop
        attrs = (axis.start, stop, axis.step)
        return self.emit(Op.IN_RANGE, attrs=attrs, space=AXIS_SPACE[axis.kind])


def without_repeats(scope: Scope, value: Value, others: tuple[Value, ...]) -> Value:
    """The value with small dimensions of equal cells cut to 1, where others have an axis.

    The axis is as long as the dimension was, so the broadcast means the same.
    """
    for dim, mine in enumerate(value.dims):
        at = dim - len(value.dims)
        theirs = [v.dims[at] for v in others if len(v.dims) >= -at]
        axes = [other for other in theirs if isinstance(other, Axis)]
        if not axes or not isinstance(mine, int) or mine == 1 or mine != scope.length(axes[0]):
            continue
        first = value.cells.take([0], axis=value.small_position(dim))
        if (value.cells == first).all():
            value = Value((*value.dims[:dim], 1, *value.dims[dim + 1 :]), first, value.dtype)
    return value


def follow_ramp(scope: Scope, op: Op, args: tuple[int, ...], made: int) -> None:
    """Fail where a step may fall on the other side of a ramp's number; weights are on no edge."""
    known = all(a in scope.ramps or scope.number_of(a) is not None for a in args)
    if known or scope.builder.nodes[made].space is not Space.FULL:
        if op in STEPS:
            scope.fail("a step of evenly spaced numbers")
        scope.ramps.add(made)


def axes_of_inputs(shape: tuple[int, ...], num_rows: int) -> tuple[Axis, ...]:
    """The axes of a tensor in the shape that the program sees.

    The places of a matrix that it sees as a vector count along FLAT.
    """
    if len(shape) == 2:
        return ROWS, COLS
    return (COLS,) if num_rows == 1 else (FLAT,)


def cell(node: int) -> np.ndarray:
    """The cells of a value without small axes: a single node."""
    return np.array(node, dtype=np.int64)


def rank_of(values: Sequence[Value]) -> int:
    """The number of dimensions of a broadcast."""
    return max(len(v.dims) for v in values)


def common(scope: Scope, values: Sequence[Value], at: int) -> Dim:
    """The dimension of a broadcast at a place that is counted from the end: -1 is the last."""
    found: Dim = 1
    for value in values:
        dim = value.dims[at] if -at <= len(value.dims) else 1
        if dim == 1 or dim == found:
            continue
        if found != 1:
            scope.fail("axes that differ are combined")
        found = dim
    return found


def checked(scope: Scope, result: Any) -> Any:
    """A rule's result. Raises NotFusable if it is too large, or an axis occurs in it twice."""
    for value in result if isinstance(result, list) else [result]:
        if isinstance(value, Value):
            if value.cells.size > MAX_CELLS:
                scope.fail(f"{value.cells.size} small values to unroll")
            kinds = [dim.kind for dim in value.dims if isinstance(dim, Axis)]
            if len(kinds) != len(set(kinds)) or ("flat" in kinds and len(kinds) > 1):
                scope.fail(f"an outer product over {', '.join(kinds)}")
    return result


def fold(op: Op, numbers: list[Any]) -> float:
    return float(ELEMENTWISE_FORMS[op](*(torch.tensor(n, dtype=torch.float64) for n in numbers)))


def each(change: Callable[[int], int], cells: np.ndarray) -> np.ndarray:
    """The cells after `change` of each."""
    out = np.empty(cells.shape, dtype=np.int64)
    for index in np.ndindex(cells.shape):
        out[index] = change(int(cells[index]))
    return out


def check_arithmetic(scope: Scope, dtype: torch.dtype | None) -> None:
    """Fail where sums and products wrap around: kernels compute them in float32."""
    if dtype in WRAPS:
        scope.fail(f"arithmetic in {dtype}")


def with_one_zero(scope: Scope, x: Value) -> Value:
    """Whole numbers as they enter arithmetic of floats. Kernels may have left -0.0 among them."""
    if x.dtype is None or x.dtype.is_floating_point or x.dtype is torch.bool:
        return x
    return Value(x.dims, each(lambda n: one_zero(scope, n), x.cells), x.dtype)


def one_zero(scope: Scope, n: int) -> int:
    zero = scope.const(0.0)
    if scope.number_of(n) == 0.0:
        return zero
    if scope.builder.nodes[n].op not in SIGNED_ZERO:
        return n
    return scope.emit(Op.WHERE, scope.emit(Op.EQ, n, zero), zero, n)
