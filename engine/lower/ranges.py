"""Between which bounds the value of each kernel node lies, for task vectors of a usual size.

Whole numbers are fused while they stay within what float32 counts, and float64 numbers while float32
has their magnitude. Bounds are those of real arithmetic; infinite ones say that nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...kernels.ir import Node, Op, Space

INF = math.inf
Range = tuple[float, float]
ANY: Range = (-INF, INF)
# No element of a task vector is larger than this. Usual ones are below 0.1.
LARGEST_ELEMENT = 16.0
# A normal draw of a number with 24 bits is never larger.
LARGEST_NORMAL = 6.0


def times(x: float, y: float) -> float:
    """The product, where zero times anything is zero."""
    return 0.0 if x == 0.0 or y == 0.0 else x * y


def hull(numbers: Sequence[float]) -> Range:
    return ANY if any(math.isnan(n) for n in numbers) else (min(numbers), max(numbers))


def added(x: Range, y: Range) -> Range:
    return x[0] + y[0], x[1] + y[1]


def subtracted(x: Range, y: Range) -> Range:
    return x[0] - y[1], x[1] - y[0]


def multiplied(x: Range, y: Range) -> Range:
    return hull([times(a, b) for a in x for b in y])


def divided(x: Range, y: Range) -> Range:
    if y[0] <= 0.0 <= y[1]:
        return (0.0, INF) if x[0] >= 0.0 and y[0] >= 0.0 else ANY
    return hull([a / b for a in x for b in y])


def squared(x: Range) -> Range:
    low, high = magnitude(x)
    return low * low, high * high


def magnitude(x: Range) -> Range:
    """The bounds of |x|."""
    sizes = abs(x[0]), abs(x[1])
    return (0.0 if x[0] <= 0.0 <= x[1] else min(sizes)), max(sizes)


def remainder(x: Range, y: Range) -> Range:
    if y[0] != y[1] or y[0] <= 0.0:
        return ANY
    inside = x[0] >= 0.0 and x[1] < y[0]
    return x if inside else (0.0, y[0])


def root(x: Range) -> Range:
    return math.sqrt(max(0.0, x[0])), math.sqrt(max(0.0, x[1]))


def grown(x: Range) -> Range:
    """The bounds of exp(x)."""
    low, high = (INF if n > 700.0 else math.exp(n) for n in x)
    return low, high


def joined(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


UNIT, TRUTH = (-1.0, 1.0), (0.0, 1.0)
FORMS: dict[Op, Callable[..., Range]] = {
    Op.NEG: lambda x: (-x[1], -x[0]),
    Op.ABS: magnitude,
    Op.SQRT: root,
    Op.EXP: grown,
    Op.ADD: added,
    Op.SUB: subtracted,
    Op.MUL: multiplied,
    Op.DIV: divided,
    Op.MOD: remainder,
    Op.MAX: lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    Op.MIN: lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    Op.WHERE: lambda c, x, y: joined(x, y),
    Op.ATAN: lambda x: (-1.6, 1.6),
    Op.ATAN2: lambda x, y: (-3.2, 3.2),
    Op.ACOS: lambda x: (0.0, 3.2),
    Op.ASIN: lambda x: (-1.6, 1.6),
    **dict.fromkeys((Op.SIGN, Op.TANH, Op.ERF, Op.SIN, Op.COS), lambda x: UNIT),
    **dict.fromkeys((Op.LT, Op.LE, Op.EQ, Op.NE), lambda x, y: TRUTH),
    **dict.fromkeys(
        (Op.FLOOR, Op.CEIL, Op.ROUND, Op.TRUNC), lambda x: (floored(x[0]), -floored(-x[1]))
    ),
    **dict.fromkeys((Op.ROUND_BF16, Op.ROUND_F16), lambda x: x),
    **dict.fromkeys((Op.REDUCE_MAX, Op.REDUCE_MIN, Op.KTH), lambda x: x),
}


def floored(x: float) -> float:
    return math.floor(x) if math.isfinite(x) else x


def range_of(node: Node, args: Sequence[Range], sizes: Callable[[Space], int]) -> Range:
    """The bounds of a node's value. `args` are its arguments', `sizes` counts a space's elements."""
    if node.op is Op.CONST:
        number = node.attrs[0]
        return ANY if math.isnan(number) else (number, number)
    if node.op is Op.INPUT:
        return -LARGEST_ELEMENT, LARGEST_ELEMENT
    if node.op is Op.RANDOM:
        return TRUTH if node.attrs[0] == "uniform" else (-LARGEST_NORMAL, LARGEST_NORMAL)
    if node.op is Op.IN_RANGE:
        return TRUTH
    if node.op is Op.INDEX:
        return 0.0, float(sizes(node.space) - 1)
    if node.op is Op.MUL and node.args[0] == node.args[1]:
        return squared(args[0])
    return FORMS[node.op](*args) if node.op in FORMS else ANY
