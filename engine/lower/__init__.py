"""Lowering: turns a traced program into a kernel graph, if streamed kernels can run it.

`lower(trace)` evaluates the trace symbolically. A tensor is a grid of kernel nodes over its small
axes, such as the stacked experts; rows, columns, or both flattened are symbolic axes (value.py).
What does not fit raises NotFusable, and torch runs ATen on whole tensors instead.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, reduce
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
import torch

from ...kernels.compiler.clock import check
from ...kernels.ir import KernelGraph
from ..trace.graph import Ref, TraceGraph, TraceNode
from ..trace.replay import overload_of
from ..trace.tree import found
from .precision import INTEGERS, Inexact, care_of, holds
from .rules.ranks import of_ranks
from .rules.sorting import Ranks
from .scope import MAX_CELLS, ROUNDING, Scope, cell, checked
from .table import RULES
from .value import COLS, ROWS, NotFusable, Value

__all__ = ["NotFusable", "lower", "lower_numbers", "supported_ops"]


def lower(trace: TraceGraph) -> KernelGraph:
    """The kernel graph with one output per output of the trace. Raises NotFusable."""
    scope, values = lowered(trace)
    return scope.builder.graph(*(output_of(scope, value) for value in values))


def lower_numbers(question: TraceGraph) -> tuple[KernelGraph, tuple[int, ...]]:
    """The kernel graph of all numbers of a question's outputs, in order, and the count of each.

    Raises NotFusable.
    """
    scope, values = lowered(question)
    numbers = [numbers_of(scope, value) for value in values]
    return scope.builder.graph(*chain(*numbers)), tuple(map(len, numbers))


def lowered(trace: TraceGraph) -> tuple[Scope, list[object]]:
    """The values of a trace's outputs, and the scope that holds their nodes."""
    scope = Scope(trace.shape, trace.matrix)
    values: dict[int, object] = {}
    for index in trace.needed(trace.outputs):
        check()
        node = trace.nodes[index]
        scope.op = node.op
        try:
            values[index] = lower_node(scope, node, values)
        except Inexact as error:
            scope.fail(str(error))
    # What follows is no operation of the program.
    scope.care = None
    return scope, [values[output] for output in trace.outputs]


# Operations of two tensors that first bring both to one dtype.
ROUNDS_NUMBERS = {
    f"aten.{name}"
    for name in "add sub rsub fmod remainder pow atan2 hypot lt le gt ge eq ne maximum minimum".split()
}
# Operations that bring a tensor of one number to the other's dtype where it comes first.
ROUNDS_FIRST = {"aten.mul", "aten.div"}
# Operations whose numbers torch cuts to whole ones where its tensors are whole.
CUTS_NUMBERS = {f"aten.{name}" for name in "addcmul hardtanh threshold addmm addmv baddbmm".split()}
COMPARISONS = {f"aten.{name}" for name in "lt le gt ge eq ne".split()}
# Reductions whose `dtype` is that of their terms, not only of the result.
CASTS_FIRST = {
    f"aten.{name}" for name in "sum nansum mean prod cumsum cumprod norm linalg_vector_norm".split()
}


def lower_node(scope: Scope, node: TraceNode, values: dict[int, object]) -> object:
    if node.op == "input":
        return Value(scope.axes, cell(scope.builder.input(node.args[0])), node.dtype)
    if node.op == "const":
        return constant(scope, node)
    args: list[Any] = [filled(a, values) for a in node.args]
    if node.op == "item":
        scope.care = care_of(node.dtype, ())
        return args[0][args[1]]
    scope.care = care_of(node.dtype, dtypes_in(args))
    if args and isinstance(args[0], (int, float)) and takes_tensor(node.op):
        args[0] = scope.lift(args[0])
    check_first_cast(scope, node, args)
    check_wrapped(scope, node, args)
    half = half_of(node, args)
    args = [rounded_number(scope, a, half) for a in args]
    if base_of(node.op) in ROUNDS_FIRST:
        args[0] = rounded_number(scope, args[0], node.dtype if node.dtype in ROUNDING else None)
    if base_of(node.op) in CUTS_NUMBERS and node.dtype in INTEGERS:
        args = [cut(scope, a) for a in args]
        node = replace(node, kwargs={k: cut(scope, v) for k, v in node.kwargs.items()})
    if found(args, Ranks):
        return of_ranks(scope, node, *args, **node.kwargs)
    rule = RULES.get(node.op) or RULES.get(base_of(node.op))
    if rule is None:
        raise NotFusable(node.op, "has no kernel form")
    kwargs = {k: rounded_number(scope, filled(v, values), half) for k, v in node.kwargs.items()}
    return checked(scope, rule(scope, node, *args, **kwargs))


def base_of(op: str) -> str:
    """The name of an operation without its overload: aten.add of aten.add.Tensor."""
    return op.rsplit(".", 1)[0]


def cut(scope: Scope, x: Any) -> Any:
    """A number as a whole one; others stay as they are. NaN and infinities are no whole numbers."""
    if not isinstance(x, float):
        return x
    return int(x) if isfinite(x) else scope.fail(f"{x} among whole numbers")


def half_of(node: TraceNode, args: list[Any]) -> torch.dtype | None:
    """Return the half precision dtype to which an operation first rounds its numbers, or None.

    Products and quotients take a number as it is.
    """
    tensors = {a.dtype for a in args if isinstance(a, Value) and a.dims}
    if base_of(node.op) not in ROUNDS_NUMBERS or len(tensors) != 1:
        return None
    dtype = tensors.pop()
    return dtype if dtype in ROUNDING else None


def rounded_number(scope: Scope, x: Any, half: torch.dtype | None) -> Any:
    """Round a number, or a tensor of one number, where `half` is a dtype; others stay as they are."""
    if half is None:
        return x
    if isinstance(x, float):
        return float(torch.tensor(x, dtype=half))
    return scope.rounded(x, half) if isinstance(x, Value) and not x.dims else x


def check_first_cast(scope: Scope, node: TraceNode, args: list[Any]) -> None:
    """Fail where a reduction casts its numbers before it adds them, unless the dtype holds all of them."""
    dtype = node.kwargs.get("dtype")
    if dtype is None or base_of(node.op) not in CASTS_FIRST:
        return
    # A sum of truth values in their own dtype is no count.
    if dtype is torch.bool or any(d is not None and not holds(dtype, d) for d in dtypes_in(args)):
        scope.fail(f"a cast to {dtype} before numbers meet")


def check_wrapped(scope: Scope, node: TraceNode, args: list[Any]) -> None:
    """Fail where a comparison brings a whole number to a dtype that does not hold it: 300 is 44 in uint8."""
    if base_of(node.op) not in COMPARISONS:
        return
    dtypes = [a.dtype for a in args if isinstance(a, Value) and a.dims and a.dtype]
    dtype = reduce(torch.promote_types, dtypes) if dtypes else torch.bool
    if dtype not in INTEGERS:
        return
    bounds = torch.iinfo(dtype)
    for low, high in (scope.bounds(a) for a in args if is_whole_number(a)):
        if low < bounds.min or high > bounds.max:
            scope.fail(f"a comparison with a number that {dtype} may not hold")


def is_whole_number(x: Any) -> bool:
    """Tells whether an argument is a whole number, or a tensor of one."""
    if isinstance(x, Value):
        return not x.dims and x.dtype in INTEGERS
    return isinstance(x, int) and not isinstance(x, bool)


@cache
def takes_tensor(op: str) -> bool:
    """Tells whether the first argument is a tensor; a number in its place is one too."""
    return str(overload_of(op)._schema.arguments[0].type) == "Tensor"


def dtypes_in(args: list[Any]) -> list[torch.dtype | None]:
    """The dtypes of the tensors among an operation's arguments."""
    tensors = [a.x if isinstance(a, Ranks) else a for a in (*args, *flat(args))]
    return [t.dtype for t in tensors if isinstance(t, Value)]


def flat(args: list[Any]) -> list[Any]:
    return [x for a in args if isinstance(a, list) for x in a]


def constant(scope: Scope, node: TraceNode) -> Value:
    """A small tensor whose numbers are known: one constant node per cell."""
    numbers, shape = node.args
    if len(numbers) > MAX_CELLS:
        scope.fail(f"a constant of {len(numbers)} numbers")
    if any(isinstance(n, complex) for n in numbers):
        scope.fail("complex numbers")
    if any(isinstance(n, int) and int(float(n)) != n for n in numbers):
        scope.fail("whole numbers that float64 does not hold")
    cells = np.array([scope.const(float(n)) for n in numbers], dtype=np.int64)
    return Value(tuple(shape), cells.reshape(shape), node.dtype)


def filled(x: object, values: dict[int, object]) -> object:
    if isinstance(x, Ref):
        return values[x.index]
    return [filled(y, values) for y in x] if isinstance(x, tuple) else x


def output_of(scope: Scope, value: object) -> int:
    if not isinstance(value, Value) or value.cells.size != 1 or value.has_ranges:
        raise NotFusable(scope.op, "the result is a stack or a part of a tensor")
    symbolic = tuple(dim for dim in value.dims if not isinstance(dim, int))
    if symbolic not in ((), (ROWS,), (COLS,), scope.axes):
        raise NotFusable(scope.op, "the result's axes are not the tensor's")
    return int(value.cells.flat[0])


def numbers_of(scope: Scope, value: object) -> list[int]:
    """The kernel nodes of a small tensor's numbers. Raises NotFusable if it has a symbolic axis."""
    if not isinstance(value, Value) or value.has_ranges:
        raise NotFusable(scope.op, "the answer is a part of a tensor")
    if not all(isinstance(dim, int) for dim in value.dims):
        raise NotFusable(scope.op, "an answer is no number")
    return [int(cell) for cell in value.cells.flat]


def supported_ops() -> list[str]:
    """Names of the operations that have a kernel form."""
    return sorted(RULES)
