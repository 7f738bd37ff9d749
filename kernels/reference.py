"""What every op means: a plain interpreter on whole tensors, float64 unless said otherwise.

All backends are tested against this definition. With dtype float32 the same code runs the small
host steps of a plan, as eager torch would have run them: an op in float32 rounds its arguments first,
and one that is DOUBLE does not. Comparisons see their arguments as float32 holds them, also where they
come in float64: a statistic that was rounded on its way is equal to the element that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from . import philox
from .ir import DOUBLE, ELEMENTWISE, REDUCTIONS, KernelGraph, Node, Op, Space

UNARY: dict[Op, Callable[[Tensor], Tensor]] = {
    Op.NEG: torch.neg,
    Op.ABS: torch.abs,
    Op.SIGN: lambda x: torch.where(x.isnan(), x, torch.sign(x)),
    Op.SQRT: torch.sqrt,
    Op.RSQRT: torch.rsqrt,
    Op.EXP: torch.exp,
    Op.EXPM1: torch.expm1,
    Op.LOG: torch.log,
    Op.LOG1P: torch.log1p,
    Op.SIN: torch.sin,
    Op.COS: torch.cos,
    Op.ASIN: torch.asin,
    Op.ACOS: torch.acos,
    Op.ATAN: torch.atan,
    Op.TANH: torch.tanh,
    Op.ERF: torch.erf,
    Op.FLOOR: torch.floor,
    Op.CEIL: torch.ceil,
    Op.ROUND: torch.round,
    Op.TRUNC: torch.trunc,
    Op.ROUND_BF16: lambda x: x.to(torch.bfloat16).to(x.dtype),
    Op.ROUND_F16: lambda x: x.to(torch.float16).to(x.dtype),
}
OTHERS: dict[Op, Callable[..., Tensor]] = {
    Op.ADD: torch.add,
    Op.SUB: torch.sub,
    Op.MUL: torch.mul,
    Op.DIV: torch.div,
    Op.POW: torch.pow,
    Op.MAX: torch.maximum,
    Op.MIN: torch.minimum,
    Op.MOD: torch.remainder,
    Op.ATAN2: torch.atan2,
    Op.LT: lambda x, y: torch.lt(x, y).to(x.dtype),
    Op.LE: lambda x, y: torch.le(x, y).to(x.dtype),
    Op.EQ: lambda x, y: torch.eq(x, y).to(x.dtype),
    Op.NE: lambda x, y: torch.ne(x, y).to(x.dtype),
    Op.WHERE: lambda c, x, y: torch.where(c != 0, x, y),
}
ELEMENTWISE_FORMS: dict[Op, Callable[..., Tensor]] = {**UNARY, **OTHERS}
assert set(ELEMENTWISE_FORMS) == ELEMENTWISE
COMPARISONS = frozenset({Op.LT, Op.LE, Op.EQ, Op.NE})


def size_of(space: Space, shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of a value in this space: [R, C], [R, 1], [1, C] or []."""
    rows, cols = shape
    return {
        Space.FULL: (rows, cols),
        Space.ROW: (rows, 1),
        Space.COL: (1, cols),
        Space.SCALAR: (),
    }[space]


def evaluate(
    graph: KernelGraph,
    inputs: Mapping[str, Tensor],
    shape: tuple[int, int],
    slots: Sequence[Tensor | None] = (),
    dtype: torch.dtype = torch.float64,
    between: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """Return the outputs' values, in the shapes of their spaces.

    Element-wise ops compute in `dtype`, or in float64 where they are DOUBLE.
    `inputs` are task vectors [R, C] by the expert's name. `slots` are the values of PARAM leaves.
    Sums are added in float64 whatever the dtype. The graph must be verified. `between` is called
    before each node, so that a clock may end long ones. A value goes after its last reader.
    """
    values: dict[int, Tensor] = {}
    for (index, node), unread in zip(enumerate(graph.nodes), last_reads(graph), strict=True):
        between()
        args = [values[a] for a in node.args]
        values[index] = value_of(node, args, inputs, shape, slots, dtype)
        for value in unread:
            del values[value]
    return [values[output] for output in graph.outputs]


def last_reads(graph: KernelGraph) -> list[list[int]]:
    """Return, for each node, the values that nobody reads after it. Outputs are read to the end."""
    found: list[list[int]] = [[] for _ in graph.nodes]
    seen = set(graph.outputs)
    for index in range(len(graph.nodes) - 1, -1, -1):
        for value in (index, *graph.nodes[index].args):
            if value not in seen:
                seen.add(value)
                found[index].append(value)
    return found


def value_of(
    node: Node,
    args: list[Tensor],
    inputs: Mapping[str, Tensor],
    shape: tuple[int, int],
    slots: Sequence[Tensor | None],
    dtype: torch.dtype,
) -> Tensor:
    """Return one node's value, given the values of its arguments."""
    if node.op in ELEMENTWISE:
        own = torch.float64 if node.attrs == DOUBLE else dtype
        if node.op in COMPARISONS and node.attrs != DOUBLE:
            args = [x.float() for x in args]
        return ELEMENTWISE_FORMS[node.op](*(x.to(own) for x in args))
    if node.op in REDUCTIONS:
        return reduce(node, args[0])
    if node.op is Op.INPUT:
        return inputs[node.attrs[0]].to(dtype)
    if node.op is Op.CONST:
        return torch.tensor(node.attrs[0], dtype=torch.float64)
    if node.op is Op.PARAM:
        slot = slots[node.attrs[0]]
        assert slot is not None, f"slot {node.attrs[0]} is read before it is filled"
        return slot
    if node.op is Op.IN_RANGE:
        return in_range(node, shape).double()
    if node.op is Op.INDEX:
        size = size_of(node.space, shape)
        return torch.arange(max(size), dtype=torch.float64).reshape(size)
    kind, seed, number = node.attrs
    return philox.draw(kind, seed, number, shape).to(dtype)


def in_range(node: Node, shape: tuple[int, int]) -> Tensor:
    """Return whether each row, column or flat index is in range(start, stop, step)."""
    start, stop, step = node.attrs
    size = size_of(node.space, shape)
    index = torch.arange(max(1, size[0] * size[1])).reshape(size)
    return (index >= start) & (index < stop) & ((index - start) % step == 0)


def reduce(node: Node, x: Tensor) -> Tensor:
    """Reduce x over the axes that the node's space leaves out."""
    if node.space is Space.SCALAR:
        flat, keep = x.reshape(-1), ()
        dim = 0
    else:
        flat, dim = x, 1 if node.space is Space.ROW else 0
        keep = (x.shape[0], 1) if dim else (1, x.shape[1])
    if node.op is Op.REDUCE_SUM:
        result = flat.sum(dim, dtype=torch.float64).to(x.dtype)
    elif node.op is Op.REDUCE_MAX:
        result = flat.amax(dim)
    elif node.op is Op.REDUCE_MIN:
        result = flat.amin(dim)
    else:
        result = flat.kthvalue(node.attrs[0], dim).values
    return result.reshape(keep)
