"""Bits of whole numbers: logic on truth values, shifts by known amounts, masks of known bits.

A shift is a product or a floored quotient with a power of two. The bits lo to hi of x, in their places,
are (x mod 2^(hi + 1)) - (x mod 2^lo), for numbers below zero too, as two's complement has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ....kernels.ir import Op
from ...trace.graph import TraceNode
from ..scope import Scope
from ..value import Value
from .elementwise import is_integer, negated

MOST_BITS = 24  # float32 counts up to 2^24


def logical(op: Op) -> Callable[..., Value]:
    """Rule for a bitwise op on truth values, where it is the logical one."""

    def rule(scope: Scope, node: TraceNode, *args: Any) -> Value:
        if node.dtype is not torch.bool:
            scope.fail("bits of whole numbers")
        operands = [scope.lift(a) for a in args]
        return scope.pointwise(lambda *n: scope.emit(op, *n), *operands, dtype=node.dtype)

    return rule


def inverted(scope: Scope, node: TraceNode, x: Value) -> Value:
    """Rule for ~x, which is -1 - x for whole numbers."""

    def formula(n: int) -> int:
        if node.dtype is torch.bool:
            return negated(scope, n)
        return scope.emit(Op.SUB, scope.const(-1.0), n)

    return scope.pointwise(formula, x, dtype=node.dtype)


def masked(scope: Scope, node: TraceNode, x: Any, y: Any) -> Value:
    """Rule for x & mask."""
    if not is_integer(node.dtype):
        return logical(Op.MUL)(scope, node, x, y)
    x, y = scope.lift(x), scope.lift(y)

    def formula(a: int, b: int) -> int:
        if scope.number_of(a) is not None:
            a, b = b, a
        mask, found = scope.number_of(b), scope.const(0.0)
        if mask is None or not 0 <= mask < 1 << MOST_BITS:
            scope.fail("bits by a mask that is not known, or too long")
        for low, high in runs(int(mask)):
            found = scope.emit(Op.ADD, found, bits(scope, a, low, high))
        return found

    return scope.pointwise(formula, x, y, dtype=node.dtype)


def runs(mask: int) -> Iterator[tuple[int, int]]:
    """The runs of bits in a mask: each one's first bit, and the bit after its last."""
    at = 0
    while mask >> at:
        if not mask >> at & 1:
            at += 1
            continue
        first = at
        while mask >> at & 1:
            at += 1
        yield first, at


def bits(scope: Scope, x: int, low: int, high: int) -> int:
    """The bits of x from `low` to the one before `high`, in their places."""
    upper = scope.emit(Op.MOD, x, scope.const(1 << high))
    return scope.emit(Op.SUB, upper, scope.emit(Op.MOD, x, scope.const(1 << low))) if low else upper


def shift(left: bool) -> Callable[..., Value]:
    """Rule for x << n and x >> n."""

    def rule(scope: Scope, node: TraceNode, x: Any, y: Any) -> Value:
        def formula(a: int, n: int) -> int:
            amount = scope.number_of(n)
            if amount is None or not 0 <= amount <= MOST_BITS:
                scope.fail("a shift by a number that is not known, or too far")
            power = scope.const(2.0 ** (amount if left else -amount))
            moved = scope.emit(Op.MUL, a, power)
            return moved if left else scope.emit(Op.FLOOR, moved)

        return scope.pointwise(formula, scope.lift(x), scope.lift(y), dtype=node.dtype)

    return rule


RULES: dict[str, Callable[..., Any]] = {
    "aten.bitwise_and": masked,
    "aten.bitwise_or": logical(Op.MAX),
    "aten.bitwise_xor": logical(Op.NE),
    "aten.bitwise_not": inverted,
    "aten.bitwise_left_shift": shift(left=True),
    "aten.bitwise_right_shift": shift(left=False),
}
