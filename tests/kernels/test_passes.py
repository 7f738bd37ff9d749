"""The compiler's front: one form for one meaning, one kernel for one structure."""

from __future__ import annotations

import itertools

import pytest
import torch
from selfdev_engine.kernels.compiler.clock import limited
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph
from selfdev_engine.kernels.ir import Builder, KernelGraph, Op
from selfdev_engine.kernels.reference import evaluate


def blend(numbers, order=(0, 1, 2)) -> KernelGraph:
    """x a + y b + max(z c, w), its terms added in an order."""
    builder = Builder()
    terms = []
    for name, number in zip("abc", numbers[:3], strict=True):
        terms.append(builder.add(Op.MUL, builder.const(number), builder.input(name)))
    terms[2] = builder.add(Op.MAX, terms[2], builder.const(numbers[3]))
    first, second, third = (terms[i] for i in order)
    return builder.graph(builder.add(Op.ADD, builder.add(Op.ADD, first, second), third))


NUMBERS = [(0.3, 0.7, 0.1, 0.2), (0.4, 0.6, -0.1, 1e-3), (5.0, 0.01, 0.9, -2.0)]


@pytest.mark.parametrize("numbers", NUMBERS)
def test_constants_are_lifted_out_of_the_structure(numbers):
    """Other numbers, other parameters, the same stages: the same kernel."""
    first, other = compile_graph(blend(NUMBERS[0])), compile_graph(blend(numbers))
    assert other.stages == first.stages
    assert sorted(other.params) == sorted(numbers)


def test_the_order_of_two_terms_is_no_meaning():
    prints = {canonical(blend(NUMBERS[0], order)).fingerprint for order in [(0, 1, 2), (1, 0, 2)]}
    assert len(prints) == 1


def test_other_numbers_are_another_meaning():
    prints = [canonical(blend(numbers)).fingerprint for numbers in NUMBERS]
    assert all(a != b for a, b in itertools.combinations(prints, 2))


@pytest.mark.parametrize("truths", [True, False])
def test_a_choice_between_truth_values_is_one_op(truths):
    """(c and p) or (not c and q), as programs elect signs; not where p and q are any numbers."""
    b = Builder()
    x, y = b.input("a"), b.input("b")
    zero = b.const(0.0)
    c = b.add(Op.LE, zero, y)
    p, q = (b.add(Op.LT, zero, x), b.add(Op.LT, x, zero)) if truths else (x, y)
    denied = b.add(Op.EQ, c, zero)
    graph = b.graph(b.add(Op.MAX, b.add(Op.MUL, denied, q), b.add(Op.MUL, p, c)))
    found = canonical(graph)
    assert (Op.MAX in {node.op for node in found.nodes}) is not truths
    inputs = {name: torch.randn(50, 7, dtype=torch.float64) for name in "ab"}
    inputs["a"][0, 0] = inputs["b"][1, 1] = torch.nan
    (wanted,), (value,) = (evaluate(g, inputs, (50, 7)) for g in (graph, found))
    assert torch.equal(wanted.nan_to_num(9.0), value.nan_to_num(9.0))


def test_a_choice_by_nested_truths_is_found_without_walking_them_again():
    """c is 60 products of truths, each of the last one with itself: a walk of all paths never ends."""
    b = Builder()
    x, zero = b.input("a"), b.const(0.0)
    c, p, q = b.add(Op.LT, x, b.input("b")), b.add(Op.LT, x, zero), b.add(Op.LT, zero, x)
    for _ in range(60):
        c = b.add(Op.MUL, c, c)
    denied = b.add(Op.EQ, c, zero)
    graph = b.graph(b.add(Op.MAX, b.add(Op.MUL, denied, q), b.add(Op.MUL, p, c)))
    with limited("all paths are walked", cpu_s=10.0):
        assert Op.WHERE in {node.op for node in canonical(graph).nodes}
