"""What is kept of graphs weighs as much as their nodes."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from selfdev_engine.engine.plans.plan import compiled
from selfdev_engine.kernels.compiler.cache import kept
from selfdev_engine.kernels.compiler.passes import canonical
from selfdev_engine.kernels.ir import Builder, KernelGraph, Node, Op, Space
from selfdev_engine.kernels.stages import nodes_of_stages


def long_graph(length: int, name: str = "a") -> KernelGraph:
    b = Builder()
    x = b.input(name)
    for _ in range(length - 1):
        x = b.add(Op.SIN, x)
    return b.graph(x)


def test_what_was_used_last_is_kept_up_to_a_number_of_nodes():
    made = []

    @kept(most=100)
    def length(graph: KernelGraph, factor: int = 1) -> int:
        made.append(graph)
        return factor * len(graph.nodes)

    graphs = [long_graph(30, name) for name in "abcd"]
    for graph in graphs[:3]:
        assert length(graph) == length(graph) == 30
    assert made == graphs[:3]
    assert length(graphs[0], factor=2) == 60  # other arguments are another result
    assert made[3:] == [graphs[0]]
    del made[:]
    length(graphs[1])
    length(graphs[2])
    assert not made
    length(graphs[0])
    assert made == [graphs[0]], "the one that was used longest ago is gone"
    assert length(long_graph(200)) == 200, "too heavy to be kept"


def constant(value: float | bool) -> KernelGraph:
    node = Node(Op.CONST, (), (value,))
    return KernelGraph((node,), (0,))


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1.0, 1), (1, True), (math.nan, 0.0)])
def test_what_the_equality_of_numbers_confuses_is_told_apart(one, other):
    made = []

    @kept()
    def numbers(graph: KernelGraph, *args: object, **named: object) -> tuple[object, ...]:
        made.append((graph.nodes[0].attrs[0], *args, *named.values()))
        return made[-1]

    assert constant(one) != constant(other)
    for number in (one, other):
        results = (
            numbers(constant(number)),
            numbers(constant(0.5), ("a", number)),
            numbers(constant(0.5), factor=number),
        )
        assert [repr(r[-1]) for r in results] == [repr(number), repr(("a", number)), repr(number)]
    assert len(made) == 6
    for number in (one, other):
        numbers(constant(float("nan") if math.isnan(number) else number))
    assert len(made) == 6, "NaN is found again, too"


def test_a_heavy_result_counts_as_what_it_holds():
    made = []

    @kept(lambda graph, result: result, most=100)
    def weight(graph: KernelGraph, weight: int) -> int:
        made.append(weight)
        return weight

    for number in (99, 98, 99):
        weight(long_graph(2), number)
    assert made == [99, 98, 99]


def sums(rounds: int, name: str) -> KernelGraph:
    b = Builder()
    x = b.input(name)
    for _ in range(rounds):
        x = b.add(Op.MUL, x, b.add(Op.REDUCE_SUM, x, space=Space.SCALAR))
    return canonical(b.graph(x))


def test_a_driver_that_compiles_many_long_programs_keeps_few_of_them():
    """60 rounds are 4,000 nodes in all stages: 256 such programs would be a million."""
    plans = [compiled(sums(60, f"expert {i}")) for i in range(80)]
    size = nodes_of_stages(sums(60, "x"), plans[0])
    live = [weakref.ref(plan) for plan in plans]
    del plans
    gc.collect()
    assert sum(ref() is not None for ref in live) * size <= 100_000
