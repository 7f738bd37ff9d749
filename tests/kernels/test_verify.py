"""Every rule of the verifier has a graph that breaks it, and every op one that is accepted."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from selfdev_engine.kernels.ir import (
    BINARY,
    ELEMENTWISE,
    LEAVES,
    REDUCTIONS,
    TERNARY,
    UNARY,
    KernelGraph,
    Node,
    Op,
    Space,
)
from selfdev_engine.kernels.verify import MAX_NODES, GraphError, verify

ALL, ROW, COL, FULL = Space.SCALAR, Space.ROW, Space.COL, Space.FULL
X = Node(Op.INPUT, (), ("a",), FULL)
ONE = Node(Op.CONST, (), (1.0,), ALL)


def graph(*nodes: Node, outputs: tuple[Any, ...] | None = None) -> KernelGraph:
    """Nodes as they are; the last one is the output."""
    return KernelGraph(nodes, (len(nodes) - 1,) if outputs is None else outputs)


def leaf(op: Op, *attrs: Any, space: Space = FULL) -> KernelGraph:
    return graph(Node(op, (), attrs, space))


def reduced(op: Op, *attrs: Any, space: Space = ALL) -> KernelGraph:
    return graph(X, Node(op, (0,), attrs, space))


ACCEPTED: dict[Op, list[KernelGraph]] = {
    Op.INPUT: [leaf(Op.INPUT, "a")],
    Op.CONST: [leaf(Op.CONST, 1.5, space=ALL), leaf(Op.CONST, float("nan"), space=ALL)],
    Op.PARAM: [leaf(Op.PARAM, 0, space=space) for space in (ALL, ROW, COL)],
    Op.IN_RANGE: [leaf(Op.IN_RANGE, 0, 4, 1, space=space) for space in (ROW, COL, FULL)]
    + [leaf(Op.IN_RANGE, 2, 2, 3)],
    Op.INDEX: [leaf(Op.INDEX, space=space) for space in (ROW, COL)],
    Op.RANDOM: [leaf(Op.RANDOM, "uniform", 0, 0), leaf(Op.RANDOM, "normal", 2**61, 2**32 - 1)],
    **{op: [graph(X, Node(op, (0,), (), FULL))] for op in UNARY},
    **{op: [graph(X, ONE, Node(op, (0, 1), (), FULL))] for op in BINARY},
    **{op: [graph(X, ONE, Node(op, (0, 1, 1), (), FULL))] for op in TERNARY},
    **{op: [reduced(op, space=s) for s in (ALL, ROW, COL)] for op in REDUCTIONS - {Op.KTH}},
    Op.KTH: [reduced(Op.KTH, 1, space=space) for space in (ALL, ROW, COL)],
}


def test_every_op_has_a_graph_that_is_accepted():
    assert set(ACCEPTED) == set(Op)
    for op, graphs in ACCEPTED.items():
        assert graphs and all(one.nodes[-1].op is op for one in graphs)


@pytest.mark.parametrize("op", sorted(Op))
def test_an_op_is_accepted(op):
    for one in ACCEPTED[op]:
        verify(one)


# ---- rules that hold for every op -----------------------------------------------------------------

ARGUMENTS = [
    (graph(Node(Op.NEG, (0,), (), FULL)), "node 0 (neg): arguments (0,) are not all earlier nodes"),
    (
        graph(X, Node(Op.ADD, (0, 2), (), FULL), X),
        "node 1 (add): arguments (0, 2) are not all earlier nodes",
    ),
    (
        graph(X, Node(Op.NEG, (-1,), (), FULL)),
        "node 1 (neg): arguments (-1,) are not all earlier nodes",
    ),
    (
        graph(X, Node(Op.NEG, (0.0,), (), FULL)),
        "node 1 (neg): arguments (0.0,) are not all earlier nodes",
    ),
    (graph(X, Node(Op.NEG, (), (), FULL)), "node 1 (neg): 0 arguments, not 1"),
    (graph(X, Node(Op.ADD, (0,), (), FULL)), "node 1 (add): 1 arguments, not 2"),
    (graph(X, Node(Op.WHERE, (0, 0), (), FULL)), "node 1 (where): 2 arguments, not 3"),
    (graph(X, Node(Op.REDUCE_SUM, (0, 0), (), ALL)), "node 1 (reduce_sum): 2 arguments, not 1"),
    (graph(X, Node(Op.INPUT, (0,), ("b",), FULL)), "node 1 (input): 1 arguments, not 0"),
]

# ---- reductions -----------------------------------------------------------------------------------

ROW_SUM = Node(Op.REDUCE_SUM, (0,), (), ROW)
COL_SUM = Node(Op.REDUCE_SUM, (0,), (), COL)
REDUCED = [
    (reduced(Op.REDUCE_SUM, space=FULL), "node 1 (reduce_sum): leaves full of full"),
    (
        graph(X, ROW_SUM, Node(Op.REDUCE_MAX, (1,), (), COL)),
        "node 2 (reduce_max): leaves col of row",
    ),
    (graph(X, ROW_SUM, Node(Op.KTH, (1,), (1,), ROW)), "node 2 (kth): leaves row of row"),
    (graph(X, COL_SUM, Node(Op.KTH, (1,), (1,), ROW)), "node 2 (kth): leaves row of col"),
    (
        graph(ONE, Node(Op.REDUCE_MIN, (0,), (), ALL)),
        "node 1 (reduce_min): leaves scalar of scalar",
    ),
    (reduced(Op.REDUCE_SUM, 1), "node 1 (reduce_sum): has attributes"),
    (reduced(Op.REDUCE_MAX, 1), "node 1 (reduce_max): has attributes"),
    (reduced(Op.REDUCE_MIN, 1), "node 1 (reduce_min): has attributes"),
    (reduced(Op.KTH), "node 1 (kth): rank ()"),
    (reduced(Op.KTH, 0), "node 1 (kth): rank (0,)"),
    (reduced(Op.KTH, 1.0), "node 1 (kth): rank (1.0,)"),
    (reduced(Op.KTH, True), "node 1 (kth): rank (True,)"),
    (reduced(Op.KTH, 2**62), "node 1 (kth): rank (4611686018427387904,)"),
    (reduced(Op.KTH, 1, 2), "node 1 (kth): rank (1, 2)"),
]

# ---- leaves ---------------------------------------------------------------------------------------

LEFT = [
    (leaf(Op.INPUT, "a", space=ROW), "node 0 (input): an input is FULL"),
    (leaf(Op.INPUT), "node 0 (input): name ()"),
    (leaf(Op.INPUT, ""), "node 0 (input): name ('',)"),
    (leaf(Op.INPUT, 3), "node 0 (input): name (3,)"),
    (leaf(Op.INPUT, "a", "b"), "node 0 (input): name ('a', 'b')"),
    (leaf(Op.CONST, space=ALL), "node 0 (const): value ()"),
    (leaf(Op.CONST, 1, space=ALL), "node 0 (const): value (1,)"),
    (leaf(Op.CONST, 1.0, space=ROW), "node 0 (const): value (1.0,)"),
    (leaf(Op.PARAM, 0), "node 0 (param): a slot is never FULL"),
    (leaf(Op.PARAM, space=ALL), "node 0 (param): slot ()"),
    (leaf(Op.PARAM, -1, space=ALL), "node 0 (param): slot (-1,)"),
    (leaf(Op.PARAM, 0.0, space=ALL), "node 0 (param): slot (0.0,)"),
    (leaf(Op.PARAM, False, space=ALL), "node 0 (param): slot (False,)"),
    (leaf(Op.IN_RANGE, 0, 4), "node 0 (in_range): range (0, 4)"),
    (leaf(Op.IN_RANGE, 0, 4.0, 1), "node 0 (in_range): range (0, 4.0, 1)"),
    (leaf(Op.IN_RANGE, 0, 4, 1, space=ALL), "node 0 (in_range): a range needs an axis"),
    (leaf(Op.IN_RANGE, -1, 4, 1), "node 0 (in_range): range (-1, 4, 1)"),
    (leaf(Op.IN_RANGE, 4, 3, 1), "node 0 (in_range): range (4, 3, 1)"),
    (leaf(Op.IN_RANGE, 0, 4, 0), "node 0 (in_range): range (0, 4, 0)"),
    (leaf(Op.INDEX), "node 0 (index): index () in full"),
    (leaf(Op.INDEX, space=ALL), "node 0 (index): index () in scalar"),
    (leaf(Op.INDEX, 1, space=ROW), "node 0 (index): index (1,) in row"),
    (leaf(Op.RANDOM, "uniform", 0, 0, space=ROW), "node 0 (random): draw ('uniform', 0, 0)"),
    (leaf(Op.RANDOM, "uniform", 0), "node 0 (random): draw ('uniform', 0)"),
    (leaf(Op.RANDOM, "cauchy", 0, 0), "node 0 (random): draw ('cauchy', 0, 0)"),
    (leaf(Op.RANDOM, "normal", 0.0, 0), "node 0 (random): draw ('normal', 0.0, 0)"),
    (leaf(Op.RANDOM, "normal", -1, 0), "node 0 (random): draw ('normal', -1, 0)"),
    (leaf(Op.RANDOM, "normal", 0, 0.0), "node 0 (random): draw ('normal', 0, 0.0)"),
    (leaf(Op.RANDOM, "normal", 0, -1), "node 0 (random): draw ('normal', 0, -1)"),
    (leaf(Op.RANDOM, "normal", 0, 2**32), "node 0 (random): draw ('normal', 0, 4294967296)"),
]


def test_every_leaf_and_reduction_has_a_graph_that_is_refused():
    assert {broken.nodes[-1].op for broken, _ in LEFT} == LEAVES
    assert {broken.nodes[-1].op for broken, _ in REDUCED} == REDUCTIONS


@pytest.mark.parametrize(("broken", "message"), [*ARGUMENTS, *REDUCED, *LEFT])
def test_a_graph_is_refused(broken, message):
    with pytest.raises(GraphError, match=f"^{re.escape(message)}$"):
        verify(broken)


# ---- element-wise ops -----------------------------------------------------------------------------


@pytest.mark.parametrize("op", sorted(ELEMENTWISE))
def test_an_element_wise_op_has_no_attributes(op):
    *before, node = ACCEPTED[op][0].nodes
    broken = graph(*before, replace(node, attrs=(1,)))
    with pytest.raises(GraphError, match=rf"\({op.value}\): has attributes$"):
        verify(broken)


def of_space(space: Space) -> Node:
    return X if space is FULL else Node(Op.PARAM, (), (0,), space)


@pytest.mark.parametrize(
    ("spaces", "joined"),
    [
        ((ALL, ALL), ALL),
        ((ROW, ALL), ROW),
        ((ROW, ROW), ROW),
        ((COL, ALL), COL),
        ((ROW, COL), FULL),
        ((FULL, COL), FULL),
    ],
)
def test_an_element_wise_op_joins_the_spaces_of_its_arguments(spaces, joined):
    first, second = map(of_space, spaces)
    verify(graph(first, second, Node(Op.ADD, (0, 1), (), joined)))
    for wrong in set(Space) - {joined}:
        broken = graph(first, second, Node(Op.ADD, (0, 1), (), wrong))
        with pytest.raises(GraphError, match=rf"^node 2 \(add\): space {wrong.value} of \["):
            verify(broken)


# ---- the graph ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [1, -1, 0.0, None])
def test_an_output_is_a_node(output):
    with pytest.raises(GraphError, match=f"^output {output} is no node$"):
        verify(graph(X, outputs=(0, output)))


def test_a_graph_has_so_many_nodes_and_no_more():
    two = graph(X, Node(Op.NEG, (0,), (), FULL))
    verify(two, max_nodes=2)
    with pytest.raises(GraphError, match=r"^2 nodes, at most 1 are allowed$"):
        verify(two, max_nodes=1)
    with pytest.raises(
        GraphError, match=f"^{MAX_NODES + 1} nodes, at most {MAX_NODES} are allowed$"
    ):
        verify(graph(*[X] * (MAX_NODES + 1)))


def test_the_first_fault_is_named():
    broken = graph(X, Node(Op.NEG, (0,), (1,), FULL), Node(Op.ABS, (0,), (1,), FULL))
    with pytest.raises(GraphError, match=r"^node 1 \(neg\)"):
        verify(broken)
