"""The traced graph as data: tests which nodes an output needs."""

from __future__ import annotations

import torch
from selfdev_engine.engine.trace.graph import Ref, TraceGraph, TraceNode


def graph() -> TraceGraph:
    """A graph of x, y, a constant that looks like indices, x + y, -x, and a stack of x and x + y."""
    nodes = (
        TraceNode("input", ("x",)),
        TraceNode("input", ("y",)),
        TraceNode("const", ((0, 1), (2,)), {}, (2,), torch.int64),
        TraceNode("aten.add.Tensor", (Ref(0), Ref(1))),
        TraceNode("aten.neg.default", (Ref(0),)),
        TraceNode("aten.stack.default", ((Ref(0), Ref(3)),), {"dim": 0}),
    )
    return TraceGraph(("x", "y"), (4,), nodes, (5,))


def test_needed_are_the_outputs_and_all_below_them_in_order():
    assert graph().needed([0]) == [0]
    assert graph().needed([2]) == [2]
    assert graph().needed([4]) == [0, 4]
    assert graph().needed([5]) == [0, 1, 3, 5]
    assert graph().needed([5, 2, 4, 5]) == [0, 1, 2, 3, 4, 5]
    assert graph().needed([]) == []


def test_needed_follows_keyword_arguments_and_long_chains():
    clamp = TraceNode("aten.clamp.Tensor", (Ref(0),), {"min": Ref(1)})
    one = TraceGraph(("x", "y"), (4,), (*graph().nodes[:2], clamp), (2,))
    assert one.needed(one.outputs) == [0, 1, 2]
    chain = [TraceNode("aten.neg.default", (Ref(i),)) for i in range(5000)]
    long = TraceGraph(("x",), (4,), (TraceNode("input", ("x",)), *chain), (5000,))
    assert long.needed(long.outputs) == list(range(5001))
