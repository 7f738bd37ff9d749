"""The pass that simplifies: constants are folded, neutral operations dropped, equal nodes made once.

A rule looks at one node whose arguments are simplified, and returns the node that replaces it, or
None. Values may change by the float32 rounding of a product of constants, and a zero may lose its
sign: x + 0.0 becomes x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..ir import DOUBLE, ELEMENTWISE, Builder, KernelGraph, Node, Op, Space, join
from ..reference import ELEMENTWISE_FORMS
from .clock import check

MIN_NORMAL = 2.0**-126  # the smallest normal float32


def simplify(graph: KernelGraph) -> KernelGraph:
    """Return the graph rebuilt node by node, each replaced where a rule says so."""
    builder, new = Simplifier(), list[int]()
    for node in graph.nodes:
        check()
        new.append(simplified(builder, node, tuple(new[a] for a in node.args)))
    return builder.graph(*(new[output] for output in graph.outputs))


class Simplifier(Builder):
    """Makes the simplified graph, and knows which of its nodes are 0 or 1 for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self._truths: list[bool] = []

    def is_truth(self, index: int) -> bool:
        # In order and not by recursion: nodes are read by many others, and nest deeply.
        for node in self.nodes[len(self._truths) : index + 1]:
            self._truths.append(self._truth(node))
        return self._truths[index]

    def _truth(self, node: Node) -> bool:
        if node.op in (Op.LT, Op.LE, Op.EQ, Op.NE, Op.IN_RANGE):
            return True
        if node.op is Op.CONST:
            return node.attrs[0] in (0.0, 1.0)
        if node.op in (Op.MUL, Op.MAX, Op.MIN):
            return all(self._truths[a] for a in node.args)
        return node.op is Op.WHERE and all(self._truths[a] for a in node.args[1:])


def simplified(b: Simplifier, node: Node, args: tuple[int, ...]) -> int:
    if node.op in ELEMENTWISE:
        numbers = [number(b, a) for a in args]
        if all(n is not None for n in numbers):
            return b.const(fold(node, [n for n in numbers if n is not None]))
        if (
            node.attrs != DOUBLE
            and (rule := RULES.get(node.op))
            and (found := rule(b, args, numbers)) is not None
        ):
            return found
    return b.copy(node, args)


def number(b: Builder, index: int) -> float | None:
    """Return the value of a constant, and None for any other node."""
    node = b.nodes[index]
    return node.attrs[0] if node.op is Op.CONST else None


def fold(node: Node, numbers: Sequence[float]) -> float:
    """Return the op's value in float32, as a kernel would compute it, or in float64 if it is DOUBLE."""
    dtype = torch.float64 if node.attrs == DOUBLE else torch.float32
    return float(ELEMENTWISE_FORMS[node.op](*(torch.tensor(n, dtype=dtype) for n in numbers)))


Numbers = list[float | None]
Rule = Callable[[Simplifier, tuple[int, ...], Numbers], int | None]


def add_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """x + 0 becomes x."""
    for mine, other in ((0, 1), (1, 0)):
        if numbers[mine] == 0.0:
            return args[other]
    return None


def sub_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """x - 0 becomes x, and 0 - x becomes -x."""
    if numbers[1] == 0.0:
        return args[0]
    return b.add(Op.NEG, args[1]) if numbers[0] == 0.0 else None


def mul_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """x * 1 becomes x, x * -1 becomes -x, and two constant factors become one."""
    for mine, other in ((0, 1), (1, 0)):
        factor = numbers[mine]
        if factor is None:
            continue
        if factor == 1.0:
            return args[other]
        if factor == -1.0:
            return b.add(Op.NEG, args[other])
        return merged_factor(b, factor, args[other])
    return None


def merged_factor(b: Builder, factor: float, index: int) -> int | None:
    """Make c1 * (c2 * x) into (c1 c2) * x, where the product neither overflows nor is tiny."""
    node = b.nodes[index]
    if node.op is not Op.MUL or node.attrs == DOUBLE:
        return None
    for mine, other in ((0, 1), (1, 0)):
        if (second := number(b, node.args[mine])) is None:
            continue
        product = fold(node, [factor, second])
        if math.isfinite(product) and abs(product) > 1e-30:
            return b.add(Op.MUL, node.args[other], b.const(product))
    return None


def div_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """x / 1 becomes x, and x / 2^k becomes x * 2^-k."""
    divisor = numbers[1]
    if divisor == 1.0:
        return args[0]
    if divisor is None or not MIN_NORMAL <= abs(divisor) <= 1.0 / MIN_NORMAL:
        return None
    # The inverse of a power of two is exact, where both are normal numbers of float32.
    if math.frexp(abs(divisor))[0] == 0.5:
        return b.add(Op.MUL, args[0], b.const(1.0 / divisor))
    return None


def neg_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """-(-x) becomes x."""
    inner = b.nodes[args[0]]
    return inner.args[0] if inner.op is Op.NEG else None


def abs_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """The magnitude of |x| or of -x becomes |x|."""
    inner = b.nodes[args[0]]
    if inner.op is Op.ABS:
        return args[0]
    return b.add(Op.ABS, inner.args[0]) if inner.op is Op.NEG else None


def where_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """A choice between equals, or by a constant, becomes what it chooses."""
    _condition, yes, no = args
    whole = join(*(b.nodes[a].space for a in args))
    # A value of a smaller space would change a sum over it: it would count fewer elements.
    if yes == no and b.nodes[yes].space is whole:
        return yes
    if numbers[0] is None:
        return None
    chosen = yes if numbers[0] != 0.0 else no
    return chosen if b.nodes[chosen].space is Space.FULL else None


def extreme_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    """max(x, x) and min(x, x) become x."""
    return args[0] if args[0] == args[1] else None


def max_rule(b: Simplifier, args: tuple[int, ...], numbers: Numbers) -> int | None:
    same = extreme_rule(b, args, numbers)
    return chosen_by_truth(b, *args) if same is None else same


def chosen_by_truth(b: Simplifier, x: int, y: int) -> int | None:
    """Make (c and yes) or (not c and no) into `yes if c else no`, where all are truth values.

    Truth values are 0 and 1, `and` is their product, `or` their maximum, `not c` is c == 0.
    """
    for one, other in ((x, y), (y, x)):
        first, second = b.nodes[one], b.nodes[other]
        if first.op is not Op.MUL or second.op is not Op.MUL:
            return None
        for c, yes in (first.args, first.args[::-1]):
            for denied, no in (second.args, second.args[::-1]):
                if is_not(b, denied, c) and all(b.is_truth(v) for v in (c, yes, no)):
                    return b.add(Op.WHERE, c, yes, no)
    return None


def is_not(b: Builder, index: int, of: int) -> bool:
    """Return whether the node is `of == 0`."""
    node = b.nodes[index]
    return node.op is Op.EQ and of in node.args and any(number(b, a) == 0.0 for a in node.args)


RULES: dict[Op, Rule] = {
    Op.ADD: add_rule,
    Op.SUB: sub_rule,
    Op.MUL: mul_rule,
    Op.DIV: div_rule,
    Op.NEG: neg_rule,
    Op.ABS: abs_rule,
    Op.WHERE: where_rule,
    Op.MAX: max_rule,
    Op.MIN: extreme_rule,
}
