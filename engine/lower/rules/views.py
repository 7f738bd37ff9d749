"""Views, stacks, scatters and fills: they move dimensions and cells, and make few nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..scope import MAX_CELLS, Scope, each, without_repeats
from ..value import COLS, FLAT, ROWS, Axis, Dim, Value
from .elementwise import cast
from .reductions import dropped, reduced

MAX_UNROLLED = 64  # elements; a longer axis of a fill must be the tensor's own


def axes_of(scope: Scope, sizes: tuple[int, ...]) -> tuple[Dim, ...]:
    """Dimensions for a value that is the same everywhere: any axis of the right length will do."""
    own = scope.axes
    head = sizes[: len(sizes) - len(own)]
    if sizes[len(head) :] == scope.shape and max(head, default=1) <= MAX_UNROLLED:
        return (*head, *own)
    return tuple(axis_of(scope, size, i == len(sizes) - 1) for i, size in enumerate(sizes))


def axis_of(scope: Scope, size: int, last: bool) -> Dim:
    known = {scope.cols: COLS} if last else {}
    if scope.axes != (COLS,):
        known = {scope.rows * scope.cols: FLAT}
    if scope.axes == (ROWS, COLS):
        known |= {scope.rows: ROWS, scope.cols: COLS}
    if size > MAX_UNROLLED and size in known:
        return known[size]
    if size > MAX_UNROLLED:
        scope.fail(f"an axis of {size}")
    return size


def broadcast(value: Value, dims: tuple[Dim, ...]) -> Value:
    """The value broadcast to these dimensions."""
    shape = tuple(d for d in dims if isinstance(d, int))
    cells = np.broadcast_to(value.spread(dims), shape)
    return Value(dims, cells, value.dtype)


def full(scope: Scope, node: TraceNode, size: list[int], number: Any, **_: Any) -> Value:
    dims = axes_of(scope, tuple(size))
    value = cast(scope, node, scope.lift(number), node.dtype)
    cells = value.cells.reshape(())
    shape = tuple(d for d in dims if isinstance(d, int))
    return Value(dims, np.broadcast_to(cells, shape), node.dtype)


def expand(scope: Scope, node: TraceNode, x: Value, size: list[int], **_: Any) -> Value:
    assert node.shape is not None
    fresh = axes_of(scope, node.shape)
    offset = len(node.shape) - len(x.dims)
    dims: list[Dim] = []
    for i, dim in enumerate(fresh):
        mine = x.dims[i - offset] if i >= offset else 1
        dims.append(mine if mine != 1 else dim)
    return broadcast(x, tuple(dims))


def reshape(scope: Scope, node: TraceNode, x: Value, size: Any) -> Value:
    """Rule for reshape: groups of old dimensions become groups of new ones with the same product.

    Dimensions of size 1 come and go.
    """
    assert node.shape is not None
    if node.shape == tuple(scope.length(d) for d in x.dims):
        return x
    if 1 in scope.shape:
        scope.fail("a reshape where rows or columns are one")
    old = [d for d in x.dims if d != 1]
    dims: list[Dim] = []
    waiting: list[int] = []
    for n in node.shape:
        if n == 1:
            dims.append(1)
            continue
        waiting.append(n)
        group = take_group(scope, old, waiting)
        if group is not None:
            dims += regrouped(scope, group, waiting)
            waiting = []
    if waiting or old:
        scope.fail("a reshape that mixes axes")
    shape = tuple(d for d in dims if isinstance(d, int))
    return Value(tuple(dims), x.cells.reshape(shape), x.dtype)


def take_group(scope: Scope, old: list[Dim], sizes: list[int]) -> list[Dim] | None:
    """Removes the first dimensions if their product is that of the sizes; else returns None."""
    wanted, product = math.prod(sizes), 1
    for count, dim in enumerate(old, 1):
        product *= scope.length(dim)
        if product == wanted:
            group = old[:count]
            del old[:count]
            return group
        if product > wanted:
            break
    return None


def regrouped(scope: Scope, group: list[Dim], sizes: list[int]) -> list[Dim]:
    if all(isinstance(d, int) for d in group):
        return list(sizes)
    if len(group) == len(sizes) == 1:
        return group
    if group == [ROWS, COLS] and len(sizes) == 1:
        return [FLAT]
    if group == [FLAT] and tuple(sizes) == scope.shape:
        return [ROWS, COLS]
    scope.fail("a reshape that mixes axes")


def permute(scope: Scope, node: TraceNode, x: Value, order: list[int]) -> Value:
    ints = [d for d in order if isinstance(x.dims[d], int)]
    cells = x.cells.transpose([x.small_position(d) for d in ints])
    return Value(tuple(x.dims[d] for d in order), cells, x.dtype)


def select(scope: Scope, node: TraceNode, x: Value, dim: int, index: int) -> Value:
    dim = scope.place(len(x.dims), dim)
    mine = x.dims[dim]
    if not isinstance(mine, int):
        first = scope.place(scope.length(mine), index)
        one = part_of(scope, mine, first, first + 1, 1)
        return dropped(read_out(scope, x, dim, one), [dim])
    cells = x.cells.take(index, axis=x.small_position(dim))
    return Value((*x.dims[:dim], *x.dims[dim + 1 :]), cells, x.dtype)


def bounds(scope: Scope, dim: Dim, start: Any, end: Any, step: int) -> tuple[int, int, int]:
    if step < 1:
        scope.fail(f"a step of {step}")
    return slice(start, end, step).indices(scope.length(dim))


def part_of(scope: Scope, dim: Axis, start: Any, end: Any, step: int) -> Axis:
    """A range of an axis, which may be a range itself."""
    first, last, step = bounds(scope, dim, start, end, step)
    if (first, step) == (0, 1) and last == scope.length(dim):
        return dim
    if last <= first:
        scope.fail("an empty part of a tensor")
    if dim.mask is not None:
        scope.fail("a part of what a mask chose")
    stop = dim.start + dim.step * (first + step * ((last - first - 1) // step)) + 1
    return Axis(dim.kind, dim.start + dim.step * first, stop, dim.step * step)


def cut(
    scope: Scope,
    node: TraceNode,
    x: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    """Rule for slice."""
    dim = scope.place(len(x.dims), dim)
    mine = x.dims[dim]
    if isinstance(mine, int):
        index = [slice(None)] * x.cells.ndim
        index[x.small_position(dim)] = slice(start, end, step)
        cells = x.cells[tuple(index)]
        size = cells.shape[x.small_position(dim)]
        return Value((*x.dims[:dim], size, *x.dims[dim + 1 :]), cells, x.dtype)
    part = part_of(scope, mine, start, end, step)
    if scope.length(part) == 1 and part != mine:
        return read_out(scope, x, dim, part)
    return Value((*x.dims[:dim], part, *x.dims[dim + 1 :]), x.cells, x.dtype)


def read_out(scope: Scope, x: Value, dim: int, one: Axis) -> Value:
    """One row, column or number, as a masked sum. Its dimension stays, with size 1."""
    part = Value((*x.dims[:dim], one, *x.dims[dim + 1 :]), x.cells, x.dtype)
    return reduced(scope, Op.REDUCE_SUM, part, [dim], True)


def slice_scatter(
    scope: Scope, node: TraceNode, x: Value, source: Value, dim: int = 0, start: Any = None,
    end: Any = None, step: int = 1,
) -> Value:  # fmt: skip
    dim = scope.place(len(x.dims), dim)
    mine = x.dims[dim]
    if isinstance(mine, int):
        index: list[Any] = [slice(None)] * x.cells.ndim
        index[x.small_position(dim)] = slice(*bounds(scope, mine, start, end, step))
        return assigned(scope, node, x, source, tuple(index), dim)
    part = part_of(scope, mine, start, end, step)
    if part == mine:
        return scope.pointwise(lambda a, b: b, x, source, dtype=node.dtype)
    return chosen(scope, node, x, source, dim, part)


def select_scatter(
    scope: Scope, node: TraceNode, x: Value, source: Value, dim: int, index: int
) -> Value:
    dim = scope.place(len(x.dims), dim)
    mine = x.dims[dim]
    wider = Value(
        (*source.dims[:dim], 1, *source.dims[dim:]),
        np.expand_dims(source.cells, small_before(source, dim)),
        source.dtype,
    )
    if isinstance(mine, int):
        position = scope.place(mine, index)
        where: list[Any] = [slice(None)] * x.cells.ndim
        where[x.small_position(dim)] = slice(position, position + 1)
        return assigned(scope, node, x, wider, tuple(where), dim)
    first = scope.place(scope.length(mine), index)
    return chosen(scope, node, x, wider, dim, part_of(scope, mine, first, first + 1, 1))


def small_before(value: Value, dim: int) -> int:
    return sum(isinstance(d, int) for d in value.dims[:dim])


def assigned(
    scope: Scope, node: TraceNode, x: Value, source: Value, index: tuple[Any, ...], dim: int
) -> Value:
    """x with the cells at `index`, along a small axis, replaced by the source's."""
    check_rank(scope, x, source)
    target = x.cells[index]
    dims = tuple(
        target.shape[x.small_position(i)] if isinstance(d, int) else d for i, d in enumerate(x.dims)
    )
    for d, s in zip(reversed(dims), reversed(source.dims), strict=False):
        if s not in (1, d):
            scope.fail("axes that differ are combined")
    cells = x.cells.copy()
    cells[index] = np.broadcast_to(source.spread(dims), target.shape)
    return Value(x.dims, cells, x.dtype)


def check_rank(scope: Scope, x: Value, source: Value) -> None:
    if len(source.dims) != len(x.dims):
        scope.fail("a part of another number of dimensions")


def chosen(scope: Scope, node: TraceNode, x: Value, source: Value, dim: int, part: Axis) -> Value:
    """The source where the axis is in this part, and x elsewhere."""
    check_rank(scope, x, source)
    source = without_repeats(scope, source, (Value((part, *x.dims[dim + 1 :]), x.cells, x.dtype),))
    if source.dims[dim] not in (1, part):
        scope.fail("ranges that differ are combined")
    inside = scope.in_range(part)
    whole = source if source.dims[dim] == 1 else Value(
        (*source.dims[:dim], x.dims[dim], *source.dims[dim + 1 :]), source.cells, source.dtype
    )  # fmt: skip
    return scope.pointwise(
        lambda a, b: scope.emit(Op.WHERE, inside, b, a), x, whole, dtype=node.dtype
    )


def stack(scope: Scope, node: TraceNode, parts: list[Value], dim: int = 0) -> Value:
    dims, grids = scope.align(*parts)
    dim %= len(dims) + 1
    position = sum(isinstance(d, int) for d in dims[:dim])
    cells = np.stack(grids, position)
    return Value((*dims[:dim], len(parts), *dims[dim:]), cells, node.dtype)


def cat(scope: Scope, node: TraceNode, parts: list[Value], dim: int = 0) -> Value:
    # Torch leaves out vectors without elements, whatever the rank of the others.
    parts = [p for p in parts if p.dims != (0,)] or parts[:1]
    dim = scope.place(len(parts[0].dims), dim)
    if not all(isinstance(p.dims[dim], int) for p in parts):
        return joined(scope, node, parts, dim)
    rest = {(*p.dims[:dim], *p.dims[dim + 1 :]) for p in parts}
    if len(rest) > 1:
        scope.fail("axes that differ are combined")
    if (count := sum(p.cells.size for p in parts)) > MAX_CELLS:
        scope.fail(f"{count} small values to unroll")
    cells = np.concatenate([p.cells for p in parts], parts[0].small_position(dim))
    size = sum(int(p.dims[dim]) for p in parts)  # type: ignore[arg-type]
    dims = parts[0].dims
    return Value((*dims[:dim], size, *dims[dim + 1 :]), cells, node.dtype)


def joined(scope: Scope, node: TraceNode, parts: list[Value], dim: int) -> Value:
    """The whole axis, put together from consecutive ranges of it."""
    axes = [p.dims[dim] for p in parts]
    at = 0
    for axis in axes:
        inside = isinstance(axis, Axis) and axis.step == 1 and axis.stop is not None
        if not inside or axis.start != at or axis.kind != axes[0].kind:  # type: ignore[union-attr]
            scope.fail("a concatenation along rows or columns")
        at += scope.length(axis)
    whole = Axis(axes[0].kind)  # type: ignore[union-attr]
    if at != scope.length(whole):
        scope.fail("a concatenation of a part of the rows or columns")
    wide = [Value((*p.dims[:dim], whole, *p.dims[dim + 1 :]), p.cells, p.dtype) for p in parts]
    result = wide[-1]
    for axis, part in reversed(list(zip(axes[:-1], wide[:-1], strict=True))):
        inside = scope.in_range(axis)  # type: ignore[arg-type]
        result = scope.pointwise(
            lambda a, b, i=inside: scope.emit(Op.WHERE, i, a, b), part, result, dtype=node.dtype
        )
    return result


def repeat(scope: Scope, node: TraceNode, x: Value, repeats: list[int]) -> Value:
    """Rule for repeat, of dimensions of size 1 only."""
    own = [1] * (len(repeats) - len(x.dims)) + list(x.dims)
    if any(n != 1 and dim != 1 for n, dim in zip(repeats, own, strict=True)):
        scope.fail("repeats of more than one number")
    return expand(scope, node, x, repeats)


def index_select(scope: Scope, node: TraceNode, x: Value, dim: int, places: Value) -> Value:
    dim = scope.place(len(x.dims), dim)
    numbers = [scope.number_of(int(n)) for n in places.cells.flat]
    size = x.dims[dim]
    known = [int(n) for n in numbers if n is not None and math.isfinite(n)]
    if not isinstance(size, int) or len(known) < len(numbers):
        scope.fail("places along rows or columns, or places that are not known")
    known = [scope.place(size, n) for n in known]
    cells = x.cells.take(known, axis=x.small_position(dim))
    return Value((*x.dims[:dim], len(known), *x.dims[dim + 1 :]), cells, x.dtype)


def flip(scope: Scope, node: TraceNode, x: Value, dims: list[int]) -> Value:
    cells = x.cells
    for dim in dims:
        if not x.dims or not isinstance(x.dims[dim], int):
            scope.fail("rows or columns in reverse")
        cells = np.flip(cells, x.small_position(scope.place(len(x.dims), dim)))
    return Value(x.dims, cells, x.dtype)


def diagonal(
    scope: Scope, node: TraceNode, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """Rule for the diagonal of two small dimensions, such as those of a Gram matrix of experts."""
    dim1, dim2 = (scope.place(len(x.dims), d) for d in (dim1, dim2))
    rows, columns = x.dims[dim1], x.dims[dim2]
    if not (isinstance(rows, int) and isinstance(columns, int)):
        scope.fail("a diagonal over rows and columns")
    offset = max(-rows, min(offset, columns))
    cells = x.cells.diagonal(offset, x.small_position(dim1), x.small_position(dim2))
    rest = [d for i, d in enumerate(x.dims) if i not in (dim1, dim2)]
    return Value((*rest, cells.shape[-1]), cells, x.dtype)


def trace(scope: Scope, node: TraceNode, x: Value) -> Value:
    return scope.rounded(
        reduced(scope, Op.REDUCE_SUM, diagonal(scope, node, x), [0], False), node.dtype
    )


def same(scope: Scope, node: TraceNode, x: Value, *_: Any, **__: Any) -> Value:
    return Value(x.dims, each(lambda n: n, x.cells), node.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "aten.full": full,
    "aten.expand": expand,
    "aten.reshape": reshape,
    "aten.permute": permute,
    "aten.select": select,
    "aten.slice": cut,
    "aten.slice_scatter": slice_scatter,
    "aten.select_scatter": select_scatter,
    "aten.stack": stack,
    "aten.cat": cat,
    "aten.flip": flip,
    "aten.diagonal": diagonal,
    "aten.diagonal_copy": diagonal,
    "aten.trace": trace,
    "aten.repeat": repeat,
    "aten.index_select": index_select,
    "aten.alias": same,
    "aten.detach": same,
}
