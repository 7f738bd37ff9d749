"""Writes every element-wise op, and float32 constants, as Triton source."""

from __future__ import annotations

from collections.abc import Callable

from ..ir import Op

Form = Callable[..., str]


def call(name: str) -> Form:
    return lambda *args: f"{name}({', '.join(args)})"


def infix(sign: str) -> Form:
    return lambda x, y: f"({x} {sign} {y})"


def compare(sign: str) -> Form:
    return lambda x, y: f"tl.where({x} {sign} {y}, 1.0, 0.0)"


FORMS: dict[Op, Form] = {
    Op.NEG: lambda x: f"(-{x})",
    Op.ABS: call("tl.abs"),
    Op.SIGN: lambda x: f"tl.where({x} > 0, 1.0, tl.where({x} < 0, -1.0, {x}))",
    Op.SQRT: call("tl.sqrt_rn"),
    Op.RSQRT: lambda x: f"tl.div_rn(one({x}), tl.sqrt_rn({x}))",
    Op.EXP: call("tl.exp"),
    Op.EXPM1: call("expm1"),
    Op.LOG: call("tl.log"),
    Op.LOG1P: call("log1p"),
    Op.SIN: call("tl.sin"),
    Op.COS: call("tl.cos"),
    Op.ASIN: call("asin"),
    Op.ACOS: call("acos"),
    Op.ATAN: call("atan"),
    Op.TANH: call("tanh"),
    Op.ERF: call("tl.erf"),
    Op.FLOOR: call("tl.floor"),
    Op.CEIL: call("tl.ceil"),
    Op.ROUND: call("nearest"),
    Op.TRUNC: lambda x: f"tl.where({x} < 0, tl.ceil({x}), tl.floor({x}))",
    Op.ROUND_BF16: call("round_bf16"),
    Op.ROUND_F16: lambda x: f"{x}.to(tl.float16).to(tl.float32)",
    Op.ADD: infix("+"),
    Op.SUB: infix("-"),
    Op.MUL: infix("*"),
    Op.DIV: call("tl.div_rn"),
    Op.POW: call("power"),
    Op.MAX: lambda x, y: f"tl.maximum({x}, {y}, propagate_nan=tl.PropagateNan.ALL)",
    Op.MIN: lambda x, y: f"tl.minimum({x}, {y}, propagate_nan=tl.PropagateNan.ALL)",
    Op.MOD: call("modulo"),
    Op.ATAN2: call("atan2"),
    Op.LT: compare("<"),
    Op.LE: compare("<="),
    Op.EQ: compare("=="),
    Op.NE: compare("!="),
    Op.WHERE: lambda c, x, y: f"tl.where({c} != 0, {x}, {y})",
}


def number(value: float) -> str:
    """Return a float32 constant as Triton source."""
    if value != value:
        return 'float("nan")'
    return f'float("{value}")' if value in (float("inf"), float("-inf")) else repr(value)
