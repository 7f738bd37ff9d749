"""What a worker reads: damaged plans and random kernel graphs raise ValueError, and nothing else."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import pytest
from selfdev_engine.engine.plans.plan import Fused, Plan
from selfdev_engine.kernels.ir import ELEMENTWISE, Space, join
from selfdev_engine.kernels.verify import arity

ODD: tuple[Any, ...] = (
    *(None, True, "", "\ud800", "x" * 999, [], {}, [[]], {"f": "nan"}, {"f": 1}, {"f": "0x1p9999"}),
    *(0, -1, 1, 7, 2**31, 2**62, -(2**63), 10**400, 0.5, 1e308, [0] * 999, {"f": "-inf"}),
)


def sound(r: random.Random) -> dict[str, Any]:
    """A plan whose graph is mostly legal: leaves, then ops on earlier nodes in any space."""
    nodes: list[Any] = [
        ["input", [], [r.choice("abc")], "full"],
        ["const", [], [{"f": r.choice((0.5, float("nan"), float("inf"))).hex()}], "scalar"],
        ["index", [], [], r.choice(("row", "col"))],
        ["random", [], ["normal", r.randrange(9), 0], "full"],
        ["in_range", [], [0, r.randrange(99), r.choice((1, 1, 1, 0))], r.choice(("row", "full"))],
        ["kth", [0], [r.choice((1, 9, 2**40))], r.choice(("row", "col", "scalar"))],
    ]
    if r.random() < 0.1:
        nodes.append(["param", [], [r.choice((0, 3, 2**61))], r.choice(("row", "scalar"))])
    for _ in range(r.randrange(9)):
        op = r.choice(sorted(ELEMENTWISE))
        args = [r.randrange(len(nodes)) for _ in range(arity(op))]
        space = join(*(Space(nodes[a][3]) for a in args))
        if r.random() < 0.03:
            args, space = args[1:], r.choice(list(Space))
        nodes.append([op.value, args, [], space.value])
    graph = {"nodes": nodes, "outputs": [r.randrange(len(nodes))]}
    plans = [{"tier": "fused", "graph": graph, "view": "own"}]
    return {"plans": plans, "tensors": {"w": 0}, "fingerprint": "0"}


def damaged(r: random.Random, x: Any) -> Any:
    """The data with one part replaced, removed or doubled."""
    if r.random() < 0.15 or not isinstance(x, (dict, list)) or not x:
        return r.choice(ODD)
    keys = list(x) if isinstance(x, dict) else list(range(len(x)))
    key = r.choice(keys)
    copy = dict(x) if isinstance(x, dict) else list(x)
    if r.random() < 0.1:
        del copy[key]
        return copy
    copy[key] = damaged(r, x[key])
    return copy


def test_damaged_plans():
    r = random.Random(5)
    tracemalloc.start()
    read = 0
    for _ in range(1500):
        data = sound(r)
        data = damaged(r, data) if r.random() < 0.7 else data
        try:
            plan = Plan.from_bytes(json.dumps(data).encode())
        except ValueError:
            continue
        read += 1
        for one in plan.tensors.values():
            assert isinstance(one, Fused) and one.kernel
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()
    assert read > 50


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"\xff", b"{}", b"[" * 99_999])
def test_bytes_that_are_no_plan(data: bytes):
    with pytest.raises(ValueError):
        Plan.from_bytes(data)
