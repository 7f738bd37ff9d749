"""Kernel nodes with operators: `1.0 / (exp(-x) + 1.0)` emits the nodes of a sigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...kernels.ir import Op
from .scope import Scope


@dataclass(frozen=True)
class Num:
    """A kernel node to calculate with. Comparisons are methods; `==` compares the nodes."""

    scope: Scope
    index: int
    # The dtype of the result, to which `stored` rounds a step on the way.
    dtype: torch.dtype | None = None

    def of(self, op: Op, *others: Number) -> Num:
        """The node of op(self, *others)."""
        index = self.scope.emit(op, self.index, *(self.lift(o) for o in others))
        return Num(self.scope, index, self.dtype)

    def stored(self) -> Num:
        """The number as torch keeps it between two operations."""
        return Num(self.scope, self.scope.round_number(self.index, self.dtype), self.dtype)

    def lift(self, other: Number) -> int:
        return other.index if isinstance(other, Num) else self.scope.const(other)

    def const(self, value: float) -> Num:
        return Num(self.scope, self.scope.const(value), self.dtype)

    def __add__(self, other: Number) -> Num:
        return self.of(Op.ADD, other)

    def __sub__(self, other: Number) -> Num:
        return self.of(Op.SUB, other)

    def __rsub__(self, other: float) -> Num:
        return self.const(other).of(Op.SUB, self)

    def __mul__(self, other: Number) -> Num:
        return self.of(Op.MUL, other)

    def __truediv__(self, other: Number) -> Num:
        return self.of(Op.DIV, other)

    def __rtruediv__(self, other: float) -> Num:
        return self.const(other).of(Op.DIV, self)

    def __neg__(self) -> Num:
        return self.of(Op.NEG)

    def __abs__(self) -> Num:
        return self.of(Op.ABS)

    def below(self, other: Number) -> Num:
        return self.of(Op.LT, other)

    def above(self, other: Number) -> Num:
        return Num(self.scope, self.lift(other), self.dtype).of(Op.LT, self)

    def equals(self, other: Number) -> Num:
        return self.of(Op.EQ, other)

    def is_nan(self) -> Num:
        return self.const(0.0) if self.scope.is_finite(self.index) else self.of(Op.NE, self)

    def choose(self, yes: Number, no: Number) -> Num:
        """`yes` where this is true, else `no`."""
        return self.of(Op.WHERE, yes, no)


Number = Num | float | int
