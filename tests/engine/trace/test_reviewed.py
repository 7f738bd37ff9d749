"""Every allowed overload was reviewed, and does no harm with arguments that Python never passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.trace.allowed import ALLOWED, NAMES
from selfdev_engine.engine.trace.replay import overload_of
from selfdev_engine.engine.trace.reviewed import GROUPS, group_of
from selfdev_engine.engine.trace.schema import KINDS
from selfdev_engine.engine.trace.verify import GraphReader

POISON = Path(__file__).with_name("poison.py")
WITHOUT_CACHE = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0", "OMP_NUM_THREADS": "1"}


def test_every_allowed_overload_is_in_one_group():
    groups = {op: group_of(op) for op in ALLOWED}
    assert {op: found for op, found in groups.items() if len(found) != 1} == {}
    words = Counter(word for words in GROUPS.values() for word in words.split())
    assert {word for word, count in words.items() if count > 1} == set()
    assert set(words) == set(NAMES)


def test_nothing_allowed_is_mutable_or_leaves_its_memory_unwritten():
    """Forms such as empty, new_empty, resize and set_ are recorded as fills, or not at all."""
    for name in NAMES:
        assert not name.endswith("_") and not name.startswith(("empty", "new_", "resize", "set_"))
        assert "out" not in [a.name for op in ALLOWED for a in overload_of(op)._schema.arguments]


def test_every_argument_of_every_overload_has_a_bound():
    """Types of arguments that no rule of schema.py knows are refused: there is none but the layout's."""
    kinds = {
        (str(a.real_type).replace("Optional[", "").replace("List[", "").rstrip("]"), a.name)
        for op in ALLOWED
        for a in overload_of(op)._schema.arguments
    }
    layout = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "generator"}
    assert {kind for kind, name in kinds if name not in layout} <= set(KINDS)


B, X, ONE = 1 << 40, {"n": 0}, {"n": 1}
HUGE = [
    [
        "aten.full.default",
        [[B, 1 << 24], 1],
        {},
        None,
        None,
    ],  # 2**64 elements: 0 if it wrapped around
    ["aten.expand.default", [ONE, [B, 1 << 24]], {}, None, None],
    ["aten.as_strided.default", [X, [B, B, B, B], [0, 0, 0, 0]], {}, None, None],
    ["aten.repeat.default", [X, [B, 1 << 24]], {}, None, None],
    ["aten.constant_pad_nd.default", [X, [B, B, B, B]], {}, None, None],
    ["aten.eye.m", [B, B], {}, None, None],
    ["aten.rand.default", [[B, 1 << 24]], {"draw": 1}, None, None],
    ["aten.select_backward.default", [ONE, [B, 1 << 24], 0, 0], {}, None, None],
    ["aten.native_group_norm.default", [X, None, None, B, B, B, 1, {"f": "0x1p0"}], {}, None, None],
    ["aten.histc.default", [X, B], {}, None, None],
    ["aten.arange.default", [B], {}, None, None],
    ["aten.tril_indices.default", [1 << 20, 1 << 20], {}, None, None],
    ["aten.multinomial.default", [X, B, True], {"draw": 1}, None, None],
]


@pytest.mark.parametrize("node", HUGE, ids=lambda node: node[0])
def test_no_size_wraps_around(node: list[Any]):
    graph = GraphReader(("x",), (24, 40))
    graph.extend([["input", ["x"], {}, None, None], ["aten.sum.default", [X], {}, None, None]])
    with pytest.raises(Rejected):
        graph.extend([node])


def test_no_call_touches_memory_that_is_not_its_own():
    """A small share of poison.py."""
    words = [sys.executable, str(POISON), "--calls", "6"]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, **WITHOUT_CACHE}
    )
    found = json.loads(done.stdout)
    assert found["faults"] == {}
    ended = sum((Counter(counts) for counts in found["counts"].values()), Counter())
    assert ended["equal"] > 700, ended
