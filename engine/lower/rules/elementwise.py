"""Element-wise operations: each has a formula of kernel nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..precision import MOST_WHOLE
from ..scope import WRAPS, Scope, each, one_zero, with_one_zero
from ..value import Value
from .formulas import gelu_tanh, tensor_rule

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
SQRT_HALF, LN2, LN10 = math.sqrt(0.5), math.log(2), math.log(10)


def is_integer(dtype: torch.dtype | None) -> bool:
    is_other = dtype is None or dtype.is_floating_point or dtype.is_complex
    return not is_other and dtype is not torch.bool


def register(names: str, formula: Callable[..., int]) -> None:
    """Adds rules for ops that are `formula(scope, node, ...)` of their tensors and numbers."""

    def rule(scope: Scope, node: TraceNode, *args: Any, **kwargs: Any) -> Value:
        operands = [scope.lift(a) for a in args]
        return scope.pointwise(lambda *n: formula(scope, *n), *operands, dtype=node.dtype)

    for name in names.split():
        RULES[f"aten.{name}"] = rule


def one(op: Op) -> Callable[..., int]:
    return lambda s, *nodes: s.emit(op, *nodes)


for names, op in {
    "neg": Op.NEG, "abs": Op.ABS, "sqrt": Op.SQRT, "rsqrt": Op.RSQRT,
    "exp": Op.EXP, "expm1": Op.EXPM1, "log": Op.LOG, "log1p": Op.LOG1P, "sin": Op.SIN, "cos": Op.COS,
    "asin": Op.ASIN, "acos": Op.ACOS, "atan": Op.ATAN, "tanh": Op.TANH, "erf": Op.ERF,
    "floor": Op.FLOOR, "ceil": Op.CEIL, "trunc": Op.TRUNC, "mul": Op.MUL, "atan2": Op.ATAN2,
    "maximum": Op.MAX, "minimum": Op.MIN, "lt": Op.LT, "le": Op.LE, "eq": Op.EQ, "ne": Op.NE,
    "where": Op.WHERE,
}.items():  # fmt: skip
    register(names, one(op))


def truth(s: Scope, x: int) -> int:
    return s.emit(Op.NE, x, s.const(0.0))


def sign(s: Scope, x: int) -> int:
    """The sign, which is 0 for NaN, as in torch."""
    found = s.emit(Op.SIGN, x)
    return found if s.is_finite(x) else s.emit(Op.WHERE, is_nan(s, x), s.const(0.0), found)


def negated(s: Scope, x: int) -> int:
    return s.emit(Op.EQ, x, s.const(0.0))


def sigmoid(s: Scope, x: int) -> int:
    return s.emit(
        Op.DIV, s.const(1.0), s.emit(Op.ADD, s.const(1.0), s.emit(Op.EXP, s.emit(Op.NEG, x)))
    )


def softplus(s: Scope, x: int, beta: int | None = None, threshold: int | None = None) -> int:
    scaled = x if beta is None else s.emit(Op.MUL, x, beta)
    grown = s.emit(Op.LOG1P, s.emit(Op.EXP, scaled))
    grown = grown if beta is None else s.emit(Op.DIV, grown, beta)
    limit = s.const(20.0) if threshold is None else threshold
    return s.emit(Op.WHERE, s.emit(Op.LT, limit, scaled), x, grown)


def is_nan(s: Scope, x: int) -> int:
    return s.const(0.0) if s.is_finite(x) else s.emit(Op.NE, x, x)


def is_finite(s: Scope, x: int) -> int:
    return s.emit(Op.LT, s.emit(Op.ABS, x), s.const(math.inf))


def frac(s: Scope, x: int) -> int:
    return s.emit(Op.SUB, x, s.emit(Op.TRUNC, x))


def fmod(s: Scope, x: int, y: int) -> int:
    size = s.emit(Op.MOD, s.emit(Op.ABS, x), s.emit(Op.ABS, y))
    return s.emit(Op.MUL, s.emit(Op.SIGN, x), size)


def lerp(s: Scope, x: int, y: int, w: int) -> int:
    """The point at w between x and y, from the nearer end, as torch does."""
    gap, number = s.emit(Op.SUB, y, x), s.number_of(w)
    rest = s.emit(Op.SUB, s.const(1.0), w) if number is None else s.const(1.0 - number)
    from_x = s.emit(Op.ADD, x, s.emit(Op.MUL, w, gap))
    from_y = s.emit(Op.SUB, y, s.emit(Op.MUL, rest, gap))
    if number is not None:
        return from_x if abs(number) < 0.5 else from_y
    return s.emit(Op.WHERE, s.emit(Op.LT, s.emit(Op.ABS, w), s.const(0.5)), from_x, from_y)


def hypot(s: Scope, x: int, y: int) -> int:
    """The root of the sum of squares. They are of ratios to the larger one, which neither overflow nor vanish."""
    x, y = s.emit(Op.ABS, x), s.emit(Op.ABS, y)
    high, low = s.emit(Op.MAX, x, y), s.emit(Op.MIN, x, y)
    ratio, one = s.emit(Op.DIV, low, high), s.const(1.0)
    root = s.emit(Op.SQRT, s.emit(Op.ADD, one, s.emit(Op.MUL, ratio, ratio)))
    found = s.emit(Op.WHERE, s.emit(Op.EQ, high, s.const(0.0)), high, s.emit(Op.MUL, high, root))
    if s.is_finite(x) and s.is_finite(y):
        return found
    endless = [s.emit(Op.EQ, n, s.const(math.inf)) for n in (x, y)]
    return s.emit(Op.WHERE, s.emit(Op.MAX, *endless), s.const(math.inf), found)


def logical_xor(s: Scope, x: int, y: int) -> int:
    return s.emit(Op.NE, truth(s, x), truth(s, y))


register("gt", lambda s, x, y: s.emit(Op.LT, y, x))
register("ge", lambda s, x, y: s.emit(Op.LE, y, x))
register("sign sgn", sign)
register("logical_not", negated)
register("logical_and", lambda s, x, y: s.emit(Op.MUL, truth(s, x), truth(s, y)))
register("logical_or", lambda s, x, y: s.emit(Op.MAX, truth(s, x), truth(s, y)))
register("logical_xor", logical_xor)
register("sigmoid", sigmoid)
register("relu", lambda s, x: s.emit(Op.MAX, x, s.const(0.0)))
register("silu", lambda s, x: s.emit(Op.MUL, x, sigmoid(s, x)))
register("softplus", softplus)
register("isnan", is_nan)
register("isfinite", is_finite)
register("isinf", lambda s, x: s.emit(Op.EQ, s.emit(Op.ABS, x), s.const(math.inf)))
register("square", lambda s, x: s.emit(Op.MUL, x, x))
register("reciprocal", lambda s, x: s.emit(Op.DIV, s.const(1.0), x))
register("log2", lambda s, x: s.emit(Op.DIV, s.emit(Op.LOG, x), s.const(LN2)))
register("log10", lambda s, x: s.emit(Op.DIV, s.emit(Op.LOG, x), s.const(LN10)))
register("exp2", lambda s, x: s.emit(Op.POW, s.const(2.0), x))
register("frac", frac)
register("fmod", fmod)
register("remainder", one(Op.MOD))
register("lerp", lerp)
register("hypot", hypot)
register("round.default", one(Op.ROUND))


def masked_fill(scope: Scope, node: TraceNode, x: Value, mask: Value, value: Any) -> Value:
    """Rule for masked_fill. The number is stored in the tensor's dtype: 5 among truth values is 1."""
    stored = cast(scope, node, scope.lift(value), node.dtype)
    return scope.pointwise(
        lambda m, v, n: scope.emit(Op.WHERE, m, v, n), mask, stored, scope.lift(x), dtype=node.dtype
    )


def scaled_sum(sign: Op) -> Rule:
    """Rule for add and sub, which have an alpha."""

    def rule(scope: Scope, node: TraceNode, x: Any, y: Any, alpha: float = 1) -> Value:
        def formula(a: int, b: int) -> int:
            b = b if alpha == 1 else scope.emit(Op.MUL, scope.const(alpha), b)
            return scope.emit(sign, a, b)

        value = scope.pointwise(formula, scope.lift(x), scope.lift(y), dtype=node.dtype)
        # Truth values stay truth values, also with True of Python.
        return (
            scope.pointwise(lambda n: truth(scope, n), value, dtype=node.dtype)
            if node.dtype is torch.bool
            else value
        )

    return rule


def rsub(scope: Scope, node: TraceNode, x: Any, y: Any, alpha: float = 1) -> Value:
    return scaled_sum(Op.SUB)(scope, node, y, scope.pointwise(
        lambda n: n if alpha == 1 else scope.emit(Op.MUL, scope.const(alpha), n), x, dtype=None
    ))  # fmt: skip


def div(scope: Scope, node: TraceNode, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    def formula(a: int, b: int) -> int:
        quotient = scope.emit(Op.DIV, a, b)
        if rounding_mode == "floor":
            return floored(scope, a, b, quotient)
        if rounding_mode is None:
            return quotient
        return scope.emit(Op.TRUNC, scope.round_number(quotient, node.dtype))

    return scope.pointwise(formula, scope.lift(x), scope.lift(y), dtype=node.dtype)


def floored(s: Scope, a: int, b: int, quotient: int) -> int:
    """a // b by way of the exact remainder, as in torch, so that 0.6 // 0.2 is the same."""
    rest = s.emit(Op.SUB, a, s.emit(Op.MOD, a, b))
    whole = s.emit(Op.ROUND, s.emit(Op.DIV, rest, b))
    if not s.is_finite(b):
        whole = s.emit(Op.WHERE, is_finite(s, b), whole, by_infinity(s, a, b))
    return s.emit(Op.WHERE, s.emit(Op.EQ, b, s.const(0.0)), quotient, whole)


def by_infinity(s: Scope, a: int, b: int) -> int:
    """a // b of an infinite b: -1 where the signs differ, else 0; NaN where a is no finite number."""
    differ = s.emit(Op.LT, s.emit(Op.MUL, sign(s, a), sign(s, b)), s.const(0.0))
    return s.emit(Op.WHERE, is_finite(s, a), s.emit(Op.NEG, differ), s.const(math.nan))


def floor_divide(scope: Scope, node: TraceNode, x: Any, y: Any) -> Value:
    return div(scope, node, x, y, "floor")


def power(scope: Scope, node: TraceNode, x: Any, y: Any) -> Value:
    """Rule for powers: products for small whole exponents, POW for others."""
    if isinstance(y, (int, float)) and not isinstance(y, bool):
        return scope.pointwise(
            lambda n: raised(scope, n, float(y), node.dtype), scope.lift(x), dtype=node.dtype
        )
    return scope.pointwise(
        lambda a, b: scope.emit(Op.POW, a, b), scope.lift(x), scope.lift(y), dtype=node.dtype
    )


def raised(s: Scope, x: int, exponent: float, dtype: torch.dtype | None = None) -> int:
    if dtype is torch.bfloat16 and exponent in (3.0, -2.0):
        # Torch rounds the square in this dtype, but not in half.
        square = s.emit(Op.ROUND_BF16, s.emit(Op.MUL, x, x))
        return (
            s.emit(Op.MUL, square, x) if exponent == 3.0 else s.emit(Op.DIV, s.const(1.0), square)
        )
    if exponent in (1.0, 2.0, 3.0, 4.0):
        found = x
        for _ in range(int(exponent) - 1):
            found = s.emit(Op.MUL, found, x)
        return found
    if exponent == 0.5:
        return s.emit(Op.SQRT, x)
    if exponent == -1.0:
        return s.emit(Op.DIV, s.const(1.0), x)
    if exponent == -0.5:
        return s.emit(Op.RSQRT, x)
    return s.emit(Op.POW, x, s.const(exponent))


def clamp(
    scope: Scope, node: TraceNode, x: Any, low: Any = None, high: Any = None, **named: Any
) -> Value:
    """Rule for clamp, whose bounds may be numbers or tensors. NaN stays NaN."""
    low, high = named.get("min", low), named.get("max", high)
    value = scope.lift(x)
    for op, bound in ((Op.MAX, low), (Op.MIN, high)):
        if bound is not None:
            value = scope.pointwise(
                lambda a, b, op=op: scope.emit(op, a, b), value, scope.lift(bound), dtype=node.dtype
            )
    return value


def clamp_max(scope: Scope, node: TraceNode, x: Any, high: Any) -> Value:
    return clamp(scope, node, x, None, high)


def addcmul(scope: Scope, node: TraceNode, x: Any, y: Any, z: Any, value: float = 1) -> Value:
    def formula(a: int, b: int, c: int) -> int:
        scaled = b if value == 1 else scope.emit(Op.MUL, scope.const(value), b)
        return scope.emit(Op.ADD, a, scope.emit(Op.MUL, scaled, c))

    return scope.pointwise(formula, *(scope.lift(v) for v in (x, y, z)), dtype=node.dtype)


def addcdiv(scope: Scope, node: TraceNode, x: Any, y: Any, z: Any, value: float = 1) -> Value:
    def formula(a: int, b: int, c: int) -> int:
        return scope.emit(
            Op.ADD, a, scope.emit(Op.MUL, scope.const(value), scope.emit(Op.DIV, b, c))
        )

    return scope.pointwise(formula, *(scope.lift(v) for v in (x, y, z)), dtype=node.dtype)


def cast(
    scope: Scope, node: TraceNode, x: Value, dtype: torch.dtype | None = None, **_: Any
) -> Value:
    """Rule for casts: to whole numbers they cut, to truth values they give 0 or 1, to half they
    round. Other values stay as they are in float32."""
    if dtype is torch.bool:
        return scope.pointwise(lambda n: truth(scope, n), x, dtype=dtype)
    if dtype is not None and dtype.is_complex:
        scope.fail("complex numbers")
    if dtype in WRAPS and not x.is_bool:
        return Value(x.dims, each(lambda n: wrapped(scope, n, dtype), x.cells), dtype)
    if dtype is torch.int32 and is_integer(x.dtype):
        most = MOST_WHOLE[torch.int32]
        if not all(scope.precision.facts.within(int(n), most) for n in x.cells.flat):
            scope.fail("whole numbers that may not fit into int32")
    if dtype and is_integer(dtype) and not is_integer(x.dtype) and not x.is_bool:
        return scope.pointwise(lambda n: whole(scope, n, dtype), x, dtype=dtype)
    if dtype and dtype.is_floating_point:
        x = with_one_zero(scope, x)
    return scope.rounded(x, dtype)


def whole(scope: Scope, n: int, dtype: torch.dtype) -> int:
    """A number cut to a whole one of int32 or int64.

    There is one whole zero, which copysign takes for positive. A number that the dtype does not hold becomes its
    least one, as on x86.
    """
    least, zero = float(torch.iinfo(dtype).min), scope.const(0.0)
    cut = scope.emit(Op.TRUNC, n)
    cut = scope.emit(Op.WHERE, scope.emit(Op.EQ, cut, zero), zero, cut)
    return held(scope, n, -least, cut, least)


def held(scope: Scope, n: int, most: float, made: int, other: float) -> int:
    """What was made of a number, or `other` where the number is NaN or not below `most`, nor its negative."""
    if scope.is_finite(n) and scope.precision.facts.within(n, most / 2):
        return made
    inside = scope.emit(Op.LT, scope.emit(Op.ABS, n), scope.const(most))
    return scope.emit(Op.WHERE, inside, made, scope.const(other))


def wrapped(scope: Scope, n: int, dtype: torch.dtype) -> int:
    """A number cut to a whole one of few bits, as casts do. What int32 does not hold gives 0."""
    limits = torch.iinfo(dtype)
    n = held(scope, n, MOST_WHOLE[torch.int32], n, 0.0)
    low, span = scope.const(limits.min), scope.const(limits.max - limits.min + 1)
    above = scope.emit(Op.SUB, scope.emit(Op.TRUNC, n), low)
    found = scope.emit(Op.MOD, above, span)
    # Of unsigned numbers the remainder may be -0.0.
    return scope.emit(Op.ADD, found, low) if limits.min else one_zero(scope, found)


def nan_to_num(scope: Scope, node: TraceNode, x: Value, nan: Any = None, *bounds: Any) -> Value:
    if node.dtype is not None and not node.dtype.is_floating_point:
        return scope.rounded(x, node.dtype)
    limits = torch.finfo(node.dtype or torch.float32)
    high = bounds[0] if bounds and bounds[0] is not None else limits.max
    low = bounds[1] if len(bounds) > 1 and bounds[1] is not None else limits.min

    def formula(n: int) -> int:
        finite = scope.emit(Op.WHERE, is_nan(scope, n), scope.const(nan or 0.0), n)
        finite = scope.emit(
            Op.WHERE, scope.emit(Op.EQ, n, scope.const(math.inf)), scope.const(high), finite
        )
        return scope.emit(
            Op.WHERE, scope.emit(Op.EQ, n, scope.const(-math.inf)), scope.const(low), finite
        )

    return scope.pointwise(formula, x, dtype=node.dtype)


def gelu(scope: Scope, node: TraceNode, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        return tensor_rule(gelu_tanh)(scope, node, x)

    def formula(n: int) -> int:
        bell = scope.emit(Op.ERF, scope.emit(Op.MUL, n, scope.const(SQRT_HALF)))
        half = scope.emit(Op.MUL, scope.const(0.5), n)
        return scope.emit(Op.MUL, half, scope.emit(Op.ADD, scope.const(1.0), bell))

    return scope.pointwise(formula, x, dtype=node.dtype)


def leaky_relu(scope: Scope, node: TraceNode, x: Value, slope: float = 0.01) -> Value:
    def formula(n: int) -> int:
        positive = scope.emit(Op.LT, scope.const(0.0), n)
        return scope.emit(Op.WHERE, positive, n, scope.emit(Op.MUL, n, scope.const(slope)))

    return scope.pointwise(formula, x, dtype=node.dtype)


RULES |= {
    "aten.add": scaled_sum(Op.ADD),
    "aten.sub": scaled_sum(Op.SUB),
    "aten.rsub": rsub,
    "aten.masked_fill": masked_fill,
    "aten.div": div,
    "aten.floor_divide": floor_divide,
    "aten.pow": power,
    "aten.clamp": clamp,
    "aten.clamp_min": clamp,
    "aten.clamp_max": clamp_max,
    "aten.hardtanh": clamp,
    "aten.addcmul": addcmul,
    "aten.addcdiv": addcdiv,
    "aten._to_copy": cast,
    "aten.nan_to_num": nan_to_num,
    "aten.gelu": gelu,
    "aten.leaky_relu": leaky_relu,
}
