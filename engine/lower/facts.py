"""Facts about the nodes of a kernel graph under construction: bounds, sizes, linearity."""

from __future__ import annotations

import math

from ...kernels.ir import Builder, Node, Op, Space
from .ranges import Range, magnitude, multiplied, range_of

# Ops whose results are finite numbers; then ops whose results are finite if their arguments are.
# Overflow of float32 is not considered.
FINITE = {Op.INPUT, Op.RANDOM, Op.IN_RANGE, Op.INDEX, Op.LT, Op.LE, Op.EQ, Op.NE}
KEEPS_FINITE = {
    *(Op.NEG, Op.ABS, Op.SIGN, Op.SIN, Op.COS, Op.ATAN, Op.TANH, Op.ERF, Op.FLOOR, Op.CEIL),
    *(Op.ROUND, Op.TRUNC, Op.ROUND_BF16, Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.WHERE),
    *(Op.REDUCE_SUM, Op.REDUCE_MAX, Op.REDUCE_MIN, Op.KTH),
}


# Ops whose results are few numbers, whatever their arguments are.
STEPPED = frozenset(
    {
        *(Op.CONST, Op.IN_RANGE, Op.INDEX, Op.LT, Op.LE, Op.EQ, Op.NE, Op.SIGN),
        *(Op.FLOOR, Op.CEIL, Op.ROUND, Op.TRUNC),
    }
)


class Facts:
    """What is known of each node's value, whatever the dtype of the operation that made it."""

    def __init__(self, builder: Builder, shape: tuple[int, int]) -> None:
        self.nodes = builder.nodes
        rows, cols = shape
        self.sizes = {Space.FULL: rows * cols, Space.ROW: rows, Space.COL: cols, Space.SCALAR: 1}
        self._ranges: list[Range] = []
        self._linear: list[bool] = []
        self._finite: list[bool] = []
        self._discrete: list[bool] = []

    def range(self, index: int) -> Range:
        """The bounds of a node's value."""
        # In order and not by recursion: long programs nest deeply.
        for i in range(len(self._ranges), index + 1):
            node = self.nodes[i]
            if node.op is Op.REDUCE_SUM:
                self._ranges.append(multiplied(self._ranges[node.args[0]], (0.0, self.terms(node))))
            else:
                args = [self._ranges[a] for a in node.args]
                self._ranges.append(range_of(node, args, self.sizes.__getitem__))
        return self._ranges[index]

    def terms(self, node: Node) -> float:
        """How many numbers a reduction takes together."""
        return float(self.sizes[self.nodes[node.args[0]].space] // max(1, self.sizes[node.space]))

    def is_linear(self, index: int) -> bool:
        """Tells whether a value is linear in the task vectors, however it was computed."""
        for i in range(len(self._linear), index + 1):
            node = self.nodes[i]
            args = [self._linear[a] for a in node.args]
            if node.op in (Op.ADD, Op.SUB, Op.NEG, Op.REDUCE_SUM):
                self._linear.append(all(args))
            elif node.op in (Op.MUL, Op.DIV):
                numbers = [self.nodes[a].op is Op.CONST for a in node.args]
                swapped = node.op is Op.MUL and args[1] and numbers[0]
                self._linear.append(swapped or (args[0] and numbers[1]))
            else:
                zero = node.op is Op.CONST and node.attrs[0] == 0.0
                self._linear.append(node.op is Op.INPUT or zero)
        return self._linear[index]

    def is_discrete(self, index: int) -> bool:
        """Tells whether a value is made of whole numbers alone, so that it may lie on a step's edge."""
        for i in range(len(self._discrete), index + 1):
            node = self.nodes[i]
            made = bool(node.args) and all(self._discrete[a] for a in node.args)
            self._discrete.append(node.op in STEPPED or made)
        return self._discrete[index]

    def is_finite(self, index: int) -> bool:
        """Tells whether a node is certainly no NaN, if the checkpoint holds none."""
        # In order and not by recursion: long programs nest deeply.
        for i in range(len(self._finite), index + 1):
            node = self.nodes[i]
            kept = node.op in KEEPS_FINITE and all(self._finite[a] for a in node.args)
            number = node.op is Op.CONST and math.isfinite(node.attrs[0])
            self._finite.append(number or kept or node.op in FINITE)
        return self._finite[index]

    def is_small(self, index: int) -> bool:
        return self.nodes[index].space is not Space.FULL

    def within(self, index: int, most: float) -> bool:
        """Tells whether a node's value is certainly no larger than this, nor its negative."""
        return magnitude(self.range(index))[1] <= most
