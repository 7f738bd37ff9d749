"""Which numbers of a program's float64 and whole numbers float32 kernels compute as eager torch does.

Small values need no care: host steps compute them in the program's own dtype. For values of the tensor's
size there are two rules, and what breaks one is not fused.

- Whole numbers stay within 2^24, up to which float32 has every one.
- float64 numbers lose nothing that a later operation would make visible. Rounding to float32 costs 1e-7 of a
  number. That is much where numbers nearly cancel: (x + 1e8) - 1e8, 1 - cos(x), E[x^2] - E[x]^2. So
  only what is linear in the task vectors is added and subtracted freely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import torch

from ...kernels.ir import DOUBLE, ELEMENTWISE, LEAVES, REDUCTIONS, Builder, Node, Op, Space, join
from .facts import Facts
from .ranges import magnitude

MOST_EXACT = float(1 << 24)
# Sums of whole numbers are exact if their terms are below this: 2^14 terms meet in one float32.
MOST_SUMMED = float(1 << 10)
# Whole numbers of host steps, by dtype. Beyond them int32 wraps around, and float64 does not count.
MOST_WHOLE = {torch.int32: float(2**31 - 1), torch.int64: float(1 << 53)}
# float64 magnitudes that float32 has too, with room for small elements.
SMALLEST, LARGEST = 2.0**-80, 2.0**100
NEGLIGIBLE = 1e-5
# float32 has a number every 4e-6 there.
LARGEST_ANGLE = 64.0
INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8})


class Kind(IntEnum):
    """How a float64 number of the tensor's size was made, from the safest on."""

    EXACT = 0  # float32 holds it
    LINEAR = 1  # a sum of multiples of exact numbers
    PRODUCT = 2  # precise to 1e-7 of itself, and adding to it might show that
    ABOVE = 3  # a constant plus what is not negative: precise, but its logarithm is not
    SHIFTED = 4  # a linear number plus another one, which may be much larger


SELECTORS = frozenset({Op.LT, Op.LE, Op.EQ, Op.NE, Op.IN_RANGE, Op.SIGN})
KEEP = frozenset({Op.NEG, Op.ABS, Op.MAX, Op.MIN, Op.WHERE, Op.ROUND_BF16, Op.ROUND_F16})
STEPS = frozenset({Op.FLOOR, Op.CEIL, Op.ROUND, Op.TRUNC, Op.SIGN, Op.LT, Op.LE, Op.EQ, Op.NE})
SMOOTH = frozenset({Op.EXP, Op.TANH, Op.ERF, Op.ATAN, Op.SIN, Op.COS, Op.EXPM1})
NEAR_ZERO = frozenset({Op.SQRT, Op.RSQRT, Op.LOG, Op.LOG1P, Op.ATAN2})
GROWS = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.POW, Op.REDUCE_SUM})


class Inexact(Exception):
    """A value that float32 does not hold as the program's dtype does."""


class Precision:
    """Makes the nodes of float64 and whole-number operations, and refuses what is not exact."""

    def __init__(self, builder: Builder, shape: tuple[int, int]) -> None:
        self.builder, self.facts = builder, Facts(builder, shape)
        self._kinds: dict[int, Kind] = {}

    def add(
        self,
        dtype: torch.dtype,
        op: Op,
        args: tuple[int, ...],
        attrs: tuple[Any, ...],
        space: Space | None,
    ) -> int:
        """Make a node of an operation that computes in this dtype. Raises Inexact."""
        spaces = [self.builder.nodes[a].space for a in args]
        if op in ELEMENTWISE and join(*spaces) is not Space.FULL:
            attrs = DOUBLE
        index = self.builder.add(op, *args, attrs=attrs, space=space)
        node = self.builder.nodes[index]
        if dtype is torch.float64:
            self._check_double(node, index)
        elif op not in LEAVES:
            self._check_whole(node, index, dtype)
        return index

    def kind(self, index: int) -> Kind:
        """The kind of a value that float64 operations made; others are exact as they are."""
        return self._kinds.get(index, Kind.EXACT)

    def _check_whole(self, node: Node, index: int, dtype: torch.dtype) -> None:
        full = node.space is Space.FULL
        summed = node.op in REDUCTIONS and not self.facts.is_small(node.args[0])
        most = MOST_EXACT if full else MOST_WHOLE.get(dtype, MOST_WHOLE[torch.int32])
        if node.op in GROWS and not self.facts.within(index, most):
            raise Inexact(self._beyond(most))
        for arg in node.args:
            # Kernels read small values as float32.
            if full and self.facts.is_small(arg) and not self.facts.within(arg, MOST_EXACT):
                raise Inexact(self._beyond(MOST_EXACT))
        if summed and node.op is Op.REDUCE_SUM:
            most = (
                MOST_SUMMED if node.space is Space.SCALAR else MOST_EXACT / self.facts.terms(node)
            )
            if not self.facts.within(node.args[0], min(most, MOST_SUMMED)):
                raise Inexact("a sum of whole numbers that float32 does not count")

    def _beyond(self, most: float) -> str:
        return f"whole numbers that may be beyond 2^{math.log2(most):.0f}"

    def _check_double(self, node: Node, index: int) -> None:
        if node.op in LEAVES:
            return
        if node.space is not Space.FULL:
            self._check_reduction(node)
            return
        for arg in node.args:
            if self.builder.nodes[arg].op is Op.CONST and not self._usual(arg):
                raise Inexact("a float64 number beyond float32")
        self._kinds[index] = self._kind_of(node)
        if not self._usual(index):
            raise Inexact("float64 numbers beyond float32")

    def _check_reduction(self, node: Node) -> None:
        """A sweep's result is taken as it is, unless what it sums is not precise."""
        over_weights = node.op in REDUCTIONS and not self.facts.is_small(node.args[0])
        if over_weights and self.kind(node.args[0]) is Kind.SHIFTED:
            raise Inexact("float64 numbers of which float32 loses digits")

    def _usual(self, index: int) -> bool:
        high = magnitude(self.facts.range(index))[1]
        return high == 0.0 or math.isinf(high) or SMALLEST <= high <= LARGEST

    def _kind_of(self, node: Node) -> Kind:
        """The kind of an element-wise node's value. Raises Inexact where digits would be lost."""
        worst = max(self.kind(a) for a in node.args)
        if node.op in (Op.ADD, Op.SUB):
            return self._sum_kind(node)
        if node.op in (Op.MUL, Op.DIV):
            return self._product_kind(node, worst)
        if node.op in KEEP:
            return worst
        if node.op in SMOOTH:
            if node.op is Op.EXP and not self.facts.range(node.args[0])[1] <= 80.0:
                raise Inexact("an exponential of float64 that float32 may not hold")
            if node.op in (Op.SIN, Op.COS) and worst is Kind.SHIFTED:
                check_angle(self.facts.range(node.args[0]))
            return Kind.SHIFTED if worst is Kind.SHIFTED else Kind.PRODUCT
        if worst is Kind.SHIFTED or (node.op is Op.LOG and worst is Kind.ABOVE):
            raise Inexact("float64 numbers of which float32 loses digits")
        if node.op in STEPS:
            return self._step_kind(node)
        if node.op in NEAR_ZERO:
            return max(worst, Kind.PRODUCT)
        if node.op is Op.MOD:
            return Kind.SHIFTED
        raise Inexact(f"{node.op.value} of float64 numbers")

    def _step_kind(self, node: Node) -> Kind:
        computed = any(self.kind(a) for a in node.args)
        same = len(set(node.args)) < len(node.args) or any(map(self._is_zero, node.args))
        if node.op in (Op.EQ, Op.NE) and computed and not same:
            raise Inexact("computed float64 numbers that are compared for equality")
        if any(self.kind(a) and self.facts.is_discrete(a) for a in node.args) and not same:
            raise Inexact("float64 numbers made of whole ones, which may lie on a step's edge")
        return Kind.EXACT

    def _is_zero(self, index: int) -> bool:
        return (
            self.builder.nodes[index].op is Op.CONST and self.builder.nodes[index].attrs[0] == 0.0
        )

    def _sum_kind(self, node: Node) -> Kind:
        if any(map(self._is_zero, node.args)):
            return max(self.kind(a) for a in node.args)
        if any(self.kind(a) is Kind.SHIFTED for a in node.args):
            raise Inexact("float64 numbers of which float32 loses digits")
        ranges = [self.facts.range(a) for a in node.args]
        if node.op is Op.SUB:
            ranges[1] = -ranges[1][1], -ranges[1][0]
        linear = [self._adds_linearly(a) for a in node.args]
        if all(linear):
            return Kind.LINEAR
        if all(low >= 0.0 for low, _ in ranges):
            added = [r for a, r in zip(node.args, ranges, strict=True) if self.facts.is_small(a)]
            small = all(high <= NEGLIGIBLE for _, high in added)
            kinds = [self.kind(a) for a in node.args]
            return max(*kinds, Kind.PRODUCT if small else Kind.ABOVE)
        if all(self.facts.is_small(a) or ok for a, ok in zip(node.args, linear, strict=True)):
            return Kind.SHIFTED
        raise Inexact("float64 numbers that may cancel")

    def _adds_linearly(self, index: int) -> bool:
        if self.facts.is_small(index):
            return self.facts.is_linear(index)
        return self.kind(index) <= Kind.LINEAR

    def _product_kind(self, node: Node, worst: Kind) -> Kind:
        if worst is Kind.SHIFTED:
            return Kind.SHIFTED
        full = [a for a in node.args if not self.facts.is_small(a) and not self._selects(a)]
        by_full = node.op is Op.DIV and node.args[1] in full
        return max(worst, Kind.LINEAR if len(full) <= 1 and not by_full else Kind.PRODUCT)

    def _selects(self, index: int) -> bool:
        return self.builder.nodes[index].op in SELECTORS


def check_angle(span: tuple[float, float]) -> None:
    """Raise Inexact where a wave shows the error of its argument: at 1e6 float32 has a number every 0.06."""
    if not magnitude(span)[1] <= LARGEST_ANGLE:
        raise Inexact("a sine or cosine of float64 numbers of which float32 loses digits")


def care_of(
    dtype: torch.dtype | None, operands: Sequence[torch.dtype | None]
) -> torch.dtype | None:
    """The dtype in which an operation computes, if kernels must take care: float64, or whole numbers.

    `operands` are the dtypes of its tensors. Comparisons and casts to whole numbers compute in theirs.
    """
    known = [d for d in operands if d is not None]
    if dtype is None or not dtype.is_floating_point:
        if any(d.is_floating_point for d in known):
            return torch.float64 if torch.float64 in known else None
        whole = [d for d in (dtype, *known) if d in INTEGERS]
        return whole[0] if whole else None
    return torch.float64 if dtype is torch.float64 else None


def holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Tell whether each number of the narrow dtype is one of the wide dtype, for kernels that have float32 alone."""
    if narrow in (wide, torch.bool) or wide is torch.float64:
        return True
    if wide.is_floating_point:
        return wide is torch.float32 and narrow is not torch.float64
    if wide not in INTEGERS or narrow not in INTEGERS:
        return False
    mine, other = torch.iinfo(wide), torch.iinfo(narrow)
    return mine.min <= other.min and other.max <= mine.max
