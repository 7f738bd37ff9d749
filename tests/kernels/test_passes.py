"""The compiler's front: one form for one meaning, one kernel for one structure."""

from __future__ import annotations

import itertools

import pytest
from selfdev_engine.kernels.ir import Builder, Graph, Op
from selfdev_engine.kernels.passes import canonical, compile_graph


def blend(numbers, order=(0, 1, 2)) -> Graph:
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
