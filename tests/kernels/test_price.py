"""What a plan would cost is known before it runs, and a hopeless one is refused in words."""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.clock import OutOfTime
from selfdev_engine.kernels.compiler.passes import compile_graph, compile_values
from selfdev_engine.kernels.execution.price import check_price, pass_ns
from selfdev_engine.kernels.ir import Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.stages import KernelPlan
from selfdev_engine.kernels.tensors import TensorSet

ALL = Space.SCALAR


def shaped(*shape: int) -> TensorSet:
    """A tensor without memory: what is refused reads none."""
    return TensorSet(
        "t", torch.empty(shape, device="meta"), {"a": torch.empty(shape, device="meta")}
    )


def asked(length: int, num_sums: int) -> KernelGraph:
    """How many elements of a chain of error functions are above each of so many numbers."""
    b = Builder()
    x = b.input("a")
    for _ in range(length):
        x = b.add(Op.ERF, x)
    over = (b.add(Op.LT, b.const(1e-4 * j), x) for j in range(num_sums))
    return b.graph(*(b.add(Op.REDUCE_SUM, y, space=ALL) for y in over))


def test_each_pass_pays_for_what_it_computes_again():
    one, two = (compile_values(asked(100, count)).stages[0].graph for count in (16, 32))
    assert 250 < pass_ns(one) < 350
    assert pass_ns(two) == pytest.approx(2 * pass_ns(one))


def test_reductions_pay_only_for_what_they_rest_on():
    """Chains of their own share no pass's price, though one stage has them all."""
    b = Builder()
    for j in range(32):
        x = b.input("a")
        for k in range(10):
            x = b.add(Op.ERF, b.add(Op.ADD, x, b.const(j + k / 10)))
        b.add(Op.REDUCE_SUM, x, space=ALL)
    sums = [i for i, node in enumerate(b.nodes) if node.op is Op.REDUCE_SUM]
    (stage,) = compile_values(b.graph(*sums)).stages
    assert 32 * 10 * 3 < pass_ns(stage.graph) < 32 * 10 * 3 * 1.2


def test_a_hopeless_plan_is_refused_before_it_reads_a_weight():
    words = r"its passes over t would take about \d+ s of one core, at most 3600 s: use fewer"
    with pytest.raises(OutOfTime, match=words):
        get_backend("cpu").values(compile_values(asked(1000, 384)), shaped(8192, 8192))


def ordinary() -> list[KernelPlan]:
    """A norm and a cut at a rank; and 200 operations, a quarter of which are dear."""
    b = Builder()
    x = b.input("a")
    cut = b.add(Op.KTH, b.add(Op.ABS, x), attrs=(5,), space=ALL)
    norm = b.add(Op.SQRT, b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=ALL))
    first = b.graph(b.add(Op.DIV, b.add(Op.MUL, b.add(Op.LT, cut, x), x), norm))
    b = Builder()
    x = y = b.input("a")
    for j in range(50):
        y = b.add(Op.MUL, b.add(Op.TANH, b.add(Op.ADD, y, b.const(j))), b.add(Op.ABS, x))
    return [compile_graph(first), compile_graph(b.graph(y))]


def test_what_programs_do_is_far_below():
    """On the largest tensors that models have: an embedding of 152,000 words."""
    check_price(ordinary(), [shaped(152_000, 8192)] * 2)
