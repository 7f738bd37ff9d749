"""Each rewrite rule of the compiler alone: where it fires, what it gives, where it must not fire.

Graphs are written as nested tuples: ("add", "a", 0.0) is the sum of the input a and the number 0.0.
"a" and "b" are inputs [R, C]; "row" [R, 1] and "col" [1, C] are indices; "mask" [R, C] is a range of
indices; "s" and "t" are numbers that are not known before the call.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from selfdev_engine.kernels.compiler.simplify import RULES, Simplifier, number, simplify
from selfdev_engine.kernels.ir import BINARY, UNARY, Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.reference import ELEMENTWISE_FORMS, evaluate

INF, NAN = math.inf, math.nan
EDGES = [0.0, -0.0, 1.0, -1.0, 2.5, -1e-30, 1e-30, 1e30, INF, -INF, NAN]

# ---- expressions ----------------------------------------------------------------------------------


def build(b: Builder, expression: Any) -> int:
    """The index of the expression's node in the builder."""
    if isinstance(expression, float):
        return b.const(expression)
    if expression in ("s", "t"):
        return b.add(Op.PARAM, attrs=("st".index(expression),), space=Space.SCALAR)
    if expression in ("row", "col"):
        return b.add(Op.INDEX, space=Space(expression))
    if expression == "mask":
        return b.add(Op.IN_RANGE, attrs=(2, 40, 3), space=Space.FULL)
    if isinstance(expression, str):
        return b.input(expression)
    op, *args = expression
    return b.add(Op(op), *(build(b, arg) for arg in args))


def read(graph: KernelGraph | Builder, index: int) -> Any:
    """The expression of a node, the inverse of `build`; nan as text, since it equals nothing."""
    node = graph.nodes[index]
    if node.op is Op.CONST:
        return repr(node.attrs[0])
    if node.op is Op.PARAM:
        return "st"[node.attrs[0]]
    if node.op is Op.INDEX:
        return node.space.value
    if node.op in (Op.INPUT, Op.IN_RANGE):
        return node.attrs[0] if node.op is Op.INPUT else "mask"
    return (node.op.value, *(read(graph, arg) for arg in node.args))


def text(expression: Any) -> Any:
    """An expression as `read` gives it, with its numbers as text."""
    if isinstance(expression, tuple):
        return tuple(map(text, expression))
    return repr(expression) if isinstance(expression, float) else expression


def graph_of(expression: Any) -> KernelGraph:
    b = Simplifier()
    return b.graph(build(b, expression))


def value(graph: KernelGraph, output: int) -> torch.Tensor:
    """The node's float64 value on edge cases, each with each, and on random numbers."""
    pairs = torch.cartesian_prod(*[torch.tensor(EDGES, dtype=torch.float64)] * 2)
    draw = torch.Generator().manual_seed(0)
    random = torch.randn(4 * len(EDGES), 2, generator=draw, dtype=torch.float64)
    a, b = torch.cat([pairs, random]).reshape(-1, len(EDGES), 2).unbind(-1)
    slots = [torch.tensor(0.7), torch.tensor(-3.0)]
    alone = KernelGraph(graph.nodes, (output,))
    (found,) = evaluate(alone, {"a": a, "b": b, "c": a * b}, (a.shape[0], a.shape[1]), slots)
    return found


def apply_rule(b: Builder, expression: Any) -> int | None:
    """What the rule of the expression's op makes of it, its arguments taken as they are."""
    op, *args = expression
    indices = tuple(build(b, arg) for arg in args)
    return RULES[Op(op)](b, indices, [number(b, index) for index in indices])


# ---- rules ----------------------------------------------------------------------------------------

TRUE_A, TRUE_B, TRUE_C = ("lt", "a", "b"), ("le", 0.0, "b"), ("ne", "a", 1.0)
NOT_A = ("eq", TRUE_A, 0.0)
CHOICE = ("where", TRUE_A, TRUE_B, TRUE_C)

FIRES: dict[Op, list[tuple[Any, Any]]] = {
    Op.ADD: [
        (("add", "a", 0.0), "a"),
        (("add", 0.0, "a"), "a"),
        (("add", "row", -0.0), "row"),
    ],
    Op.SUB: [
        (("sub", "a", 0.0), "a"),
        (("sub", "a", -0.0), "a"),
        (("sub", 0.0, "a"), ("neg", "a")),
        (("sub", -0.0, "a"), ("neg", "a")),
    ],
    Op.MUL: [
        (("mul", "a", 1.0), "a"),
        (("mul", 1.0, "a"), "a"),
        (("mul", "a", -1.0), ("neg", "a")),
        (("mul", -1.0, "a"), ("neg", "a")),
        (("mul", 0.5, ("mul", "a", 0.25)), ("mul", "a", 0.125)),
        (("mul", ("mul", -3.0, "a"), 0.5), ("mul", "a", -1.5)),
    ],
    Op.DIV: [
        (("div", "a", 1.0), "a"),
        (("div", "a", 4.0), ("mul", "a", 0.25)),
        (("div", "a", -0.125), ("mul", "a", -8.0)),
        (("div", "s", 2.0), ("mul", "s", 0.5)),
    ],
    Op.NEG: [(("neg", ("neg", "a")), "a")],
    Op.ABS: [
        (("abs", ("abs", "a")), ("abs", "a")),
        (("abs", ("neg", "a")), ("abs", "a")),
    ],
    Op.WHERE: [
        (("where", "a", "b", "b"), "b"),
        (("where", "s", "row", "row"), "row"),
        (("where", 1.0, "a", "b"), "a"),
        (("where", -2.0, "a", "row"), "a"),
        (("where", NAN, "a", "b"), "a"),
        (("where", 0.0, "a", "b"), "b"),
        (("where", -0.0, "s", "b"), "b"),
    ],
    Op.MAX: [
        (("max", "a", "a"), "a"),
        (("max", ("mul", TRUE_A, TRUE_B), ("mul", NOT_A, TRUE_C)), CHOICE),
        (("max", ("mul", NOT_A, TRUE_C), ("mul", TRUE_A, TRUE_B)), CHOICE),
        (("max", ("mul", TRUE_B, TRUE_A), ("mul", TRUE_C, NOT_A)), CHOICE),
        (("max", ("mul", TRUE_A, TRUE_B), ("mul", ("eq", 0.0, TRUE_A), TRUE_C)), CHOICE),
        (
            ("max", ("mul", TRUE_A, ("min", TRUE_B, 1.0)), ("mul", NOT_A, 0.0)),
            ("where", TRUE_A, ("min", TRUE_B, 1.0), 0.0),
        ),
        (
            ("max", ("mul", TRUE_A, ("where", "a", TRUE_B, 0.0)), ("mul", NOT_A, TRUE_C)),
            ("where", TRUE_A, ("where", "a", TRUE_B, 0.0), TRUE_C),
        ),
        (
            ("max", ("mul", TRUE_A, "mask"), ("mul", NOT_A, ("mul", TRUE_B, TRUE_C))),
            ("where", TRUE_A, "mask", ("mul", TRUE_B, TRUE_C)),
        ),
        (
            ("max", ("mul", TRUE_A, ("max", TRUE_B, TRUE_C)), ("mul", NOT_A, ("eq", "a", "b"))),
            ("where", TRUE_A, ("max", TRUE_B, TRUE_C), ("eq", "a", "b")),
        ),
    ],
    Op.MIN: [(("min", "a", "a"), "a")],
}

STAYS: dict[Op, list[Any]] = {
    Op.ADD: [("add", "a", 1.0), ("add", "a", "b"), ("add", "a", NAN), ("add", "a", 1e-45)],
    Op.SUB: [("sub", "a", "a"), ("sub", "a", 1.0), ("sub", 1.0, "a")],
    Op.MUL: [
        ("mul", "a", 0.0),  # NaN and Inf must stay visible
        ("mul", "a", "a"),
        ("mul", "a", NAN),
        ("mul", 0.5, ("mul", "a", "s")),
        ("mul", 0.5, ("add", "a", 0.25)),
        ("mul", 1e30, ("mul", "a", 1e30)),  # the product overflows float32
        ("mul", 1e-20, ("mul", "a", 1e-20)),  # and here it loses its digits
        ("mul", 0.5, ("mul", "a", 0.0)),
    ],
    Op.DIV: [
        ("div", "a", 3.0),  # 1/3 is rounded
        ("div", "a", 2.0**-140),  # its inverse is not finite in float32
        ("div", "a", 2.0**127),  # its inverse is subnormal in float32
        ("div", "a", 0.0),
        ("div", "a", INF),
        ("div", "a", NAN),
        ("div", 1.0, "a"),
        ("div", "a", "a"),
    ],
    Op.NEG: [("neg", "a"), ("neg", ("abs", "a"))],
    Op.ABS: [("abs", "a"), ("abs", ("sub", "a", "b")), ("abs", ("sqrt", "a"))],
    Op.WHERE: [
        ("where", "a", "row", "row"),  # FULL [R, C]: a sum over it counts each row C times
        ("where", "row", "s", "s"),
        ("where", 1.0, "row", "a"),
        ("where", 0.0, "a", "s"),
        ("where", "a", "a", "b"),
        ("where", "s", "a", "b"),
    ],
    Op.MAX: [
        ("max", "a", "b"),
        ("max", ("mul", TRUE_A, "a"), ("mul", NOT_A, "b")),  # any numbers: a maximum of them
        ("max", ("mul", TRUE_A, "a"), ("mul", NOT_A, TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("mul", NOT_A, "a")),
        ("max", ("mul", "a", TRUE_B), ("mul", ("eq", "a", 0.0), TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("mul", TRUE_A, TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("mul", ("eq", TRUE_A, 1.0), TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("mul", ("eq", TRUE_B, TRUE_C), TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("mul", ("ne", TRUE_A, 0.0), TRUE_C)),
        ("max", ("mul", TRUE_A, TRUE_B), ("add", NOT_A, TRUE_C)),
        ("max", ("mul", TRUE_A, 2.0), ("mul", NOT_A, TRUE_C)),
        ("max", ("mul", TRUE_A, ("mul", TRUE_B, 2.0)), ("mul", NOT_A, TRUE_C)),
        ("max", ("mul", TRUE_A, ("add", TRUE_B, TRUE_C)), ("mul", NOT_A, TRUE_C)),
        ("max", ("mul", TRUE_A, ("where", "a", TRUE_B, "s")), ("mul", NOT_A, TRUE_C)),
    ],
    Op.MIN: [
        ("min", "a", "b"),
        ("min", ("mul", TRUE_A, TRUE_B), ("mul", NOT_A, TRUE_C)),
    ],
}


def test_every_rule_has_cases():
    assert set(FIRES) == set(STAYS) == set(RULES)
    assert all(FIRES.values()) and all(STAYS.values())
    written = [(op, case) for op in RULES for case, _ in FIRES[op]]
    written += [(op, case) for op in RULES for case in STAYS[op]]
    assert all(Op(case[0]) is op for op, case in written)


@pytest.mark.parametrize(("before", "after"), [case for op in RULES for case in FIRES[op]])
def test_a_rule_gives_the_expected_graph(before, after):
    b = Simplifier()
    found = apply_rule(b, before)
    assert found is not None, "the rule does not fire"
    assert read(b, found) == text(after)


@pytest.mark.parametrize(("before", "after"), [case for op in RULES for case in FIRES[op]])
def test_a_rule_keeps_the_value_and_its_space(before, after):
    b = Simplifier()
    original = build(b, before)
    found = apply_rule(b, before)
    assert found is not None
    graph = b.graph()
    assert graph.nodes[found].space is graph.nodes[original].space
    wanted = value(graph, original)
    torch.testing.assert_close(value(graph, found), wanted, rtol=1e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize("expression", [case for op in RULES for case in STAYS[op]])
def test_a_rule_does_not_fire(expression):
    assert apply_rule(Simplifier(), expression) is None


@pytest.mark.parametrize("expression", [case for op in RULES for case in STAYS[op]])
def test_what_no_rule_takes_comes_out_as_it_was(expression):
    found = simplify(graph_of(expression))
    assert read(found, found.outputs[0]) == text(expression)


@pytest.mark.parametrize(("before", "after"), [case for op in RULES for case in FIRES[op]])
def test_the_pass_applies_the_rules(before, after):
    found = simplify(graph_of(before))
    assert read(found, found.outputs[0]) == text(after)


ZERO_SIGNS_LOST = {
    *(("add", "a", "0.0"), ("add", "0.0", "a")),
    *(("sub", "a", "-0.0"), ("sub", "0.0", "a")),
}


@pytest.mark.parametrize(("before", "after"), [case for op in RULES for case in FIRES[op]])
def test_the_sign_of_zero_is_lost_by_these_rules_only(before, after):
    """-0.0 + 0.0 is 0.0, and the rule gives -0.0: equal numbers, but 1 / x tells them apart."""
    b = Simplifier()
    original, found = build(b, before), apply_rule(b, before)
    assert found is not None
    wanted, got = value(b.graph(), original), value(b.graph(), found)
    known = ~wanted.isnan()
    equal = torch.equal(wanted.signbit()[known], got.signbit()[known])
    assert equal is (text(before) not in ZERO_SIGNS_LOST)


# ---- the pass around the rules --------------------------------------------------------------------


def test_constants_are_folded_in_float32():
    b = Simplifier()
    found = simplify(graph_of(("mul", "a", ("add", 0.1, 0.2))))
    assert read(found, found.outputs[0]) == ("mul", "a", repr(float(torch.tensor(0.1) + 0.2)))
    assert read(b, build(b, ("add", 0.1, 0.2))) == ("add", "0.1", "0.2")


@pytest.mark.parametrize("op", sorted(ELEMENTWISE_FORMS))
def test_every_op_folds_to_what_the_reference_says(op):
    """The numbers give NaN, Inf and -0.0 too."""
    arity = 1 if op in UNARY else 2 if op in BINARY else 3
    for numbers in [(0.5, -2.0, 3.0), (-0.0, 0.0, -1.0), (INF, NAN, -INF), (-1.0, 1e30, 1.0)]:
        graph = graph_of((op.value, *numbers[:arity]))
        (wanted,) = evaluate(graph, {}, (1, 1), dtype=torch.float32)
        found = simplify(graph)
        node = found.nodes[found.outputs[0]]
        assert node.op is Op.CONST
        assert repr(node.attrs[0]) == repr(float(wanted))


def test_rules_see_what_earlier_rules_gave():
    """((a + (0.5 - 0.5)) * (2 / 2)) is a, and two paths to it are one node."""
    doubled = (
        "add",
        ("mul", ("add", "a", ("sub", 0.5, 0.5)), ("div", 2.0, 2.0)),
        ("neg", ("neg", "a")),
    )
    found = simplify(graph_of(doubled))
    assert read(found, found.outputs[0]) == ("add", "a", "a")


def test_equal_nodes_are_made_once():
    (node,) = graph_of("a").nodes
    assert simplify(KernelGraph((node, node), (0, 1))) == KernelGraph((node,), (0, 0))


def test_the_two_zeros_are_two_numbers():
    b = Simplifier()
    assert simplify(b.graph(b.const(0.0), b.const(-0.0))).outputs == (0, 1)


def test_reductions_and_leaves_are_left_alone():
    b = Simplifier()
    x = b.input("a")
    row = b.add(Op.REDUCE_SUM, x, space=Space.ROW)
    rank = b.add(Op.KTH, x, attrs=(3,), space=Space.COL)
    drawn = b.add(Op.RANDOM, attrs=("normal", 1, 2), space=Space.FULL)
    place = b.add(Op.IN_RANGE, attrs=(0, 4, 2), space=Space.ROW)
    graph = b.graph(row, rank, drawn, place)
    assert simplify(graph) == graph
