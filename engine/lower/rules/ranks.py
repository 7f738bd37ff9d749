"""Rules for numbers in order along an axis: thresholds, and sums and means of the largest.

`sort` and `topk` along rows, columns or a whole tensor give Ranks. A number at a known place is a
KTH node, and a quantile gathers two of them. The sum of the k largest is the sum of those above the
k-th, plus the k-th as often as it takes to make them k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ...trace.tree import found
from ..scope import Scope, checked, each
from ..value import Value
from . import views
from .elementwise import is_nan, truth
from .reductions import dims_of, dropped, mean_of, reduced
from .sorting import Pair, Ranks, kth

ROUNDED = (Op.TRUNC, Op.CEIL, Op.FLOOR)


def of_ranks(scope: Scope, node: TraceNode, r: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of an op whose first argument is in order. Raises NotFusable if it has no rule."""
    if node.op == "aten.stack.default":
        return stack(scope, node, r, *args, **kwargs)
    rule = RULES.get(node.op.rsplit(".", 1)[0])
    if rule is None or not isinstance(r, Ranks) or found(args, Ranks):
        scope.fail("needs all numbers of an axis in order")
    return checked(scope, rule(scope, node, r, *args, **kwargs))


def at_rank(scope: Scope, r: Ranks, rank: int) -> Value:
    """The number at a rank, which counts from 1. Its dimension stays, with size 1."""
    size = scope.length(r.x.dims[r.dim])
    # NaN counts as the largest, and a maximum with NaN is NaN.
    if rank == size:
        return reduced(scope, Op.REDUCE_MAX, r.x, [r.dim], True)
    if rank == 1 and all(scope.is_finite(int(n)) for n in r.x.cells.flat):
        return reduced(scope, Op.REDUCE_MIN, r.x, [r.dim], True)
    return kth(scope, r.x, rank, [r.dim], True)


def stack(scope: Scope, node: TraceNode, parts: Any, dim: int = 0) -> Ranks:
    """The same ranks of several tensors, side by side."""
    first = parts[0]
    for r in parts:
        if not isinstance(r, Ranks) or replace(r, x=first.x) != first or r.x.dims != first.x.dims:
            scope.fail("numbers in order beside others")
    dim %= len(first.x.dims) + 1
    whole = views.stack(scope, node, [r.x for r in parts], dim)
    return replace(first, x=whole, dim=first.dim + (dim <= first.dim))


def select(scope: Scope, node: TraceNode, r: Ranks, dim: int, index: int) -> Any:
    dim = scope.place(len(r.x.dims), dim)
    if dim != r.dim:
        scope.fail("one row of numbers in order")
    return dropped(at_rank(scope, r, r.rank(index % (r.high - r.low))), [dim])


def cut(
    scope: Scope, node: TraceNode, r: Ranks, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> Any:  # fmt: skip
    """Rule for slice: fewer ranks, or one number."""
    places = range(r.high - r.low)[slice(start, end, step)]
    if scope.place(len(r.x.dims), dim) != r.dim or step != 1 or not places:
        scope.fail("a part of numbers in order")
    ranks = sorted((r.rank(places[0]), r.rank(places[-1])))
    if len(places) == 1:
        return at_rank(scope, r, ranks[0])
    return replace(r, low=ranks[0] - 1, high=ranks[1])


def gather(scope: Scope, node: TraceNode, r: Ranks, dim: int, index: Value, **_: Any) -> Value:
    """Rule for gather at places that are constants or choices between constants."""
    if scope.place(len(r.x.dims), dim) != r.dim:
        scope.fail("numbers in order, gathered along another axis")
    places = sorted({p for n in index.cells.flat for p in leaves(scope, int(n))})
    numbers = [at_rank(scope, r, r.rank(int(p))) for p in places]

    def formula(place: int, *cells: int) -> int:
        return chosen(scope, place, dict(zip(places, cells, strict=True)))

    return scope.pointwise(formula, index, *numbers, dtype=r.x.dtype)


def leaves(scope: Scope, node: int) -> list[float]:
    """All constants that a place may be."""
    if (number := scope.number_of(node)) is not None:
        return [number]
    return [p for branch in branches(scope, node)[1:] for p in leaves(scope, branch)]


def branches(scope: Scope, node: int) -> tuple[int, int, int]:
    """The (condition, yes, no) of a choice, which may be rounded."""
    made = scope.builder.nodes[node]
    if made.op in ROUNDED:
        condition, yes, no = branches(scope, made.args[0])
        return condition, scope.emit(made.op, yes), scope.emit(made.op, no)
    if made.op is not Op.WHERE:
        scope.fail("places that are not known")
    condition, yes, no = made.args
    return condition, yes, no


def chosen(scope: Scope, place: int, cells: dict[float, int]) -> int:
    if (number := scope.number_of(place)) is not None:
        return cells[number]
    condition, yes, no = branches(scope, place)
    return scope.emit(Op.WHERE, condition, chosen(scope, yes, cells), chosen(scope, no, cells))


# ---- reductions, for which the order does not matter ---------------------------------------------


def whole(scope: Scope, r: Ranks, dims: list[int]) -> Value | None:
    """The numbers in any order if all ranks are reduced, or None if only some are."""
    if r.dim not in dims:
        scope.fail("numbers in order, reduced along another axis")
    return r.x if r.high - r.low == scope.length(r.x.dims[r.dim]) else None


def extreme(op: Op) -> Callable[..., Any]:
    """Rule for min, amin, max and amax: the first or the last of the ranks."""

    def rule(
        scope: Scope, node: TraceNode, r: Ranks, dim: Any = None, keepdim: bool = False
    ) -> Any:
        dims = dims_of(r.x, dim)
        whole(scope, r, dims)
        if not all(scope.is_finite(int(n)) for n in r.x.cells.flat):
            scope.fail("an extreme of numbers in order that may be NaN")
        value = at_rank(scope, r, r.low + 1 if op is Op.REDUCE_MIN else r.high)
        value = reduced(scope, op, value, dims, keepdim)
        if node.op.endswith(".dim"):
            return Pair(value, lambda: scope.fail("places along an axis"))
        return value

    return rule


def total(
    scope: Scope, node: TraceNode, r: Ranks, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    dims = dims_of(r.x, dim)
    if (x := whole(scope, r, dims)) is None:
        x = outermost(scope, r)
    return scope.rounded(reduced(scope, Op.REDUCE_SUM, x, dims, keepdim), node.dtype)


def mean(
    scope: Scope, node: TraceNode, r: Ranks, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    dims = dims_of(r.x, dim)
    if (x := whole(scope, r, dims)) is None:
        x = outermost(scope, r)
        count = scope.const(r.high - r.low)
        x = Value(x.dims, each(lambda n: scope.emit(Op.DIV, n, count), x.cells), x.dtype)
        dims_left = [d for d in dims if d != r.dim]
        value = mean_of(scope, x, dims_left, True) if dims_left else x
        return scope.rounded(value if keepdim else dropped(value, dims), node.dtype)
    return scope.rounded(mean_of(scope, x, dims, keepdim), node.dtype)


def outermost(scope: Scope, r: Ranks) -> Value:
    """The sum of the largest or smallest numbers, with its dimension kept.

    It is the sum of those beyond the number at the last rank, plus that number as often as needed.
    """
    size = scope.length(r.x.dims[r.dim])
    if r.low and r.high != size:
        scope.fail("a sum of numbers from the middle of an order")
    edge = at_rank(scope, r, r.low + 1 if r.low else r.high)

    def beyond(n: int, e: int) -> int:
        return scope.emit(Op.LT, e, n) if r.low else scope.emit(Op.LT, n, e)

    inside = scope.pointwise(beyond, r.x, edge, dtype=None)
    zero = scope.const(0.0)
    numbers = scope.pointwise(
        lambda i, n: scope.emit(Op.WHERE, i, n, zero), inside, r.x, dtype=None
    )
    sums = reduced(scope, Op.REDUCE_SUM, numbers, [r.dim], True)
    counts = reduced(scope, Op.REDUCE_SUM, inside, [r.dim], True)
    meant = scope.const(r.high - r.low)

    def formula(s: int, c: int, e: int) -> int:
        return scope.emit(Op.ADD, s, scope.emit(Op.MUL, scope.emit(Op.SUB, meant, c), e))

    return scope.pointwise(formula, sums, counts, edge, dtype=r.x.dtype)


def nan_ranks(scope: Scope, node: TraceNode, r: Ranks) -> Ranks:
    """Rule for isnan, which keeps the order because NaN counts as the largest."""
    return replace(r, x=scope.pointwise(lambda n: is_nan(scope, n), r.x, dtype=node.dtype))


def any_of(
    scope: Scope, node: TraceNode, r: Ranks, dim: Any = None, keepdim: bool = False
) -> Value:
    dims = dims_of(r.x, dim)
    if (x := whole(scope, r, dims)) is None:
        scope.fail("a part of numbers in order")
    bits = Value(x.dims, each(lambda n: truth(scope, n), x.cells), node.dtype)
    return reduced(scope, Op.REDUCE_MAX, bits, dims, keepdim)


def reshape(scope: Scope, node: TraceNode, r: Ranks, size: Any) -> Ranks:
    """Rule for reshapes that only add or remove dimensions of size 1, as a quantile does."""
    assert node.shape is not None
    have = [scope.length(d) for d in r.x.dims]
    have[r.dim] = r.high - r.low
    long = [d for d, n in enumerate(node.shape) if n != 1]
    if [n for n in have if n != 1] != [node.shape[d] for d in long] or have[r.dim] == 1:
        scope.fail("numbers in order in another shape")
    dim = long[sum(n != 1 for n in have[: r.dim])]
    shape = list(node.shape)
    shape[dim] = scope.length(r.x.dims[r.dim])
    return replace(
        r, x=views.reshape(scope, replace(node, shape=tuple(shape)), r.x, shape), dim=dim
    )


RULES: dict[str, Callable[..., Any]] = {
    "aten.select": select,
    "aten.slice": cut,
    "aten.gather": gather,
    "aten.min": extreme(Op.REDUCE_MIN),
    "aten.amin": extreme(Op.REDUCE_MIN),
    "aten.max": extreme(Op.REDUCE_MAX),
    "aten.amax": extreme(Op.REDUCE_MAX),
    "aten.sum": total,
    "aten.mean": mean,
    "aten.isnan": nan_ranks,
    "aten.any": any_of,
    "aten.reshape": reshape,
}
