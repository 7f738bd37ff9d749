"""Rarer element-wise functions. Each formula treats NaN, zeros and signs as torch does."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..number import Num, Number
from ..scope import Scope, with_one_zero
from ..value import Value

MAX_DECIMALS = 38  # float32 holds ten to this power


def unary(op: Op) -> Callable[[Num], Num]:
    return lambda x: x.of(op)


exp, log, sqrt = unary(Op.EXP), unary(Op.LOG), unary(Op.SQRT)
expm1, log1p, tanh = unary(Op.EXPM1), unary(Op.LOG1P), unary(Op.TANH)
sin, cos = unary(Op.SIN), unary(Op.COS)


def maximum(x: Num, y: Number) -> Num:
    """The larger number; NaN if either is NaN."""
    return x.of(Op.MAX, y)


def minimum(x: Num, y: Number) -> Num:
    return x.of(Op.MIN, y)


def square(x: Num) -> Num:
    return x * x


def sigmoid(x: Num) -> Num:
    return 1.0 / (exp(-x) + 1.0)


def is_negative(x: Num) -> Num:
    """1 for numbers below 0 and for -0.0."""
    return maximum(x.below(0.0), (1.0 / x).below(0.0))


def copysign(x: Num, y: Num) -> Num:
    return is_negative(y).choose(-abs(x), abs(x))


def asinh(x: Num) -> Num:
    a = abs(x)
    return copysign(log1p(a + a * a / (sqrt(a * a + 1.0) + 1.0)), x)


def hard_sigmoid(x: Num) -> Num:
    return minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0


def gelu_tanh(x: Num) -> Num:
    inner = (x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)
    return x * 0.5 * (tanh(inner) + 1.0)


def elu(x: Num, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Num:
    return x.above(0.0).choose(x * scale, expm1(x * input_scale) * (alpha * scale))


def celu(x: Num, alpha: float = 1.0) -> Num:
    return elu(x, alpha, 1.0, 1.0 / alpha) if alpha else x.scope.fail("an alpha of 0")


def threshold(x: Num, bound: float, value: float) -> Num:
    return x.of(Op.LE, bound).choose(value, x)


def soft_shrink(x: Num, bound: float = 0.5) -> Num:
    return x.above(bound).choose(x - bound, x.below(-bound).choose(x + bound, x * 0.0))


def hard_shrink(x: Num, bound: float = 0.5) -> Num:
    return abs(x).of(Op.LE, bound).choose(0.0, x)


def rounded_to(x: Num, decimals: int) -> Num:
    if abs(decimals) > MAX_DECIMALS:
        x.scope.fail(f"{decimals} decimals")
    unit = 10.0 ** abs(decimals)
    return (x * unit).of(Op.ROUND) / unit if decimals > 0 else (x / unit).of(Op.ROUND) * unit


def fmax(x: Num, y: Num) -> Num:
    """The larger number; the other one if one is NaN."""
    return x.is_nan().choose(y, y.is_nan().choose(x, maximum(x, y)))


def fmin(x: Num, y: Num) -> Num:
    return x.is_nan().choose(y, y.is_nan().choose(x, minimum(x, y)))


def log_add_exp(x: Num, y: Num, base: float = math.e) -> Num:
    rate = math.log(base)
    # Two equal infinities have no gap either.
    gap = x.equals(y).choose(0.0, abs(x - y))
    return maximum(x, y) + log1p(exp(gap * -rate)) / rate


def xlogy(x: Num, y: Num) -> Num:
    return y.is_nan().choose(y, x.equals(0.0).choose(0.0, x * log(y).stored()))


def xlog1py(x: Num, y: Num) -> Num:
    return y.is_nan().choose(y, x.equals(0.0).choose(0.0, x * log1p(y).stored()))


def heaviside(x: Num, at_zero: Num) -> Num:
    return x.equals(0.0).choose(at_zero, x.above(0.0))


def sinc(x: Num) -> Num:
    angle = x * math.pi
    return x.equals(0.0).choose(1.0, sin(angle) / angle)


def entropy(x: Num) -> Num:
    """-x log x above 0, 0 at 0, -inf below; NaN stays NaN."""
    inside = x.equals(0.0).choose(0.0, x * -log(x).stored())
    return x.below(0.0).choose(-math.inf, inside)


def logit(x: Num, eps: float | None = None) -> Num:
    inside = x if eps is None else minimum(maximum(x, eps), 1.0 - eps)
    return log((inside / (1.0 - inside).stored()).stored())


OF_TENSORS: dict[str, Callable[..., Num]] = {
    "tan": lambda x: sin(x) / cos(x),
    "sinh": lambda x: (expm1(x) - expm1(-x)) * 0.5,
    "cosh": lambda x: (exp(x) + exp(-x)) * 0.5,
    "asinh": asinh,
    "acosh": lambda x: log(x + sqrt((x - 1.0) * (x + 1.0))),
    "atanh": lambda x: (log1p(x) - log1p(-x)) * 0.5,
    "erfc": lambda x: 1.0 - x.of(Op.ERF),
    "isposinf": lambda x: x.equals(math.inf),
    "isneginf": lambda x: x.equals(-math.inf),
    "signbit": is_negative,
    "sinc": sinc,
    "deg2rad": lambda x: x * (math.pi / 180.0),
    "rad2deg": lambda x: x * (180.0 / math.pi),
    "special_xlog1py": xlog1py,
    "ldexp": lambda x, y: x * x.const(2.0).of(Op.POW, y),
    "special_entr": entropy,
    "relu6": lambda x: minimum(maximum(x, 0.0), 6.0),
    "mish": lambda x: x * tanh(x.above(20.0).choose(x, log1p(exp(x)))),
    "hardsigmoid": hard_sigmoid,
    "hardswish": lambda x: x * hard_sigmoid(x),
    "fmax": fmax,
    "fmin": fmin,
    "logaddexp": log_add_exp,
    "logaddexp2": partial(log_add_exp, base=2.0),
    "xlogy": xlogy,
    "heaviside": heaviside,
    "copysign": copysign,
}
# Arguments after the first are Python numbers, which shape the formula.
WITH_NUMBERS: dict[str, Callable[..., Num]] = {
    "elu": elu,
    "celu": celu,
    "threshold": threshold,
    "softshrink": soft_shrink,
    "hardshrink": hard_shrink,
    "logit": logit,
    "round.decimals": rounded_to,
}


def tensor_rule(formula: Callable[..., Num]) -> Callable[..., Value]:
    def rule(scope: Scope, node: TraceNode, *args: Any) -> Value:
        return scope.pointwise(
            lambda *cells: formula(*(Num(scope, c, node.dtype) for c in cells)).index,
            *(with_one_zero(scope, scope.lift(a)) for a in args),
            dtype=node.dtype,
        )

    return rule


def number_rule(formula: Callable[..., Num]) -> Callable[..., Value]:
    def rule(scope: Scope, node: TraceNode, x: Value, *numbers: float, **named: float) -> Value:
        return scope.pointwise(
            lambda n: formula(Num(scope, n, node.dtype), *numbers, **named).index,
            x,
            dtype=node.dtype,
        )

    return rule


RULES: dict[str, Callable[..., Any]] = {
    **{f"aten.{name}": tensor_rule(formula) for name, formula in OF_TENSORS.items()},
    **{f"aten.{name}": number_rule(formula) for name, formula in WITH_NUMBERS.items()},
}
