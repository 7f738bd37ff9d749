"""A small share of the random calls of op_fuzz.py, and calls that once went wrong."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest
import torch
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.fuse import NotFused, fused
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.tensors import TensorSet

SECONDS = 15


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


op_fuzz = load("op_fuzz")


def test_random_calls():
    began, seed, attempt = time.process_time(), 0, op_fuzz.Attempt(caged=False)
    while seed < 800 and time.process_time() - began < SECONDS:
        outcome = attempt(seed)
        assert not outcome.fault, (seed, outcome.graph, outcome.fault)
        seed += 1
    assert seed > 50


n, call = op_fuzz.n, op_fuzz.call
EMPTY, SORTED, INTEGERS = n(4), n(19), n(13)
# Name -> (a node, whether it has kernels).
ONCE_WRONG = {
    "the sum of no experts": (call("sum.dim_IntList", EMPTY, [0]), True),
    "the product of no experts": (call("prod.dim_int", EMPTY, 0), True),
    "any of no experts": (call("any.dim", EMPTY, 0), True),
    "all of no experts": (call("all.dim", EMPTY, 0), True),
    "the mean of no experts": (call("mean.dim", EMPTY, [0]), True),
    "integers without NaN": (call("nan_to_num.default", INTEGERS), True),
    "more decimals than a number has": (call("round.decimals", n(0), decimals=400), False),
    "a stack of sorted numbers": (call("stack.default", [SORTED, SORTED]), True),
    "sorted numbers in a row": (call("cat.default", [SORTED, SORTED]), False),
    "sorted numbers of sorted numbers": (call("sub.Tensor", n(16), SORTED), False),
    "a number along an axis": (call("select_scatter.default", n(11), n(11), 0, 0), None),
    "a step of none": (call("slice_scatter.default", n(3), n(3), 0, 0, 3, 0), None),
    "the largest none": (call("topk.default", n(0), 0, 1), None),
    "an infinite place": (call("index_select.default", n(3), 0, n(20)), None),
    "a diagonal far away": (call("diagonal.default", n(23), 1 << 40), None),
    "a negative axis of no elements": (call("expand.default", n(27), [-2, -1]), None),
    "a vector without elements in a row": (call("cat.default", [n(0), n(27)], 1), None),
    "half complex numbers": (call("view_as_complex.default", n(33)), None),
    "the logarithm of a sum over no axes": (call("logsumexp.default", n(0), []), None),
    "the sum of a number": (call("sum.default", op_fuzz.f(0.5)), True),
}


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_calls_that_once_went_wrong(name: str):
    node, has_kernels = ONCE_WRONG[name]
    shape = (4, 6)
    reader = op_fuzz.reader_of(shape)
    start = len(reader.nodes)
    try:
        reader.extend([node])
    except op_fuzz.Rejected:
        return
    op_fuzz.items(reader, start)
    assert not op_fuzz.run(reader, start, None).fault
    if has_kernels is None:
        return
    (graph,) = op_fuzz.closed(reader, start)
    graph = op_fuzz.replace(graph, outputs=graph.outputs[:1])
    plan = fused(graph, "own")
    assert isinstance(plan, NotFused) != has_kernels
    if isinstance(plan, NotFused):
        with pytest.raises(NotFusable):
            lower(graph)
        return
    inputs = op_fuzz.inputs_of(shape)
    found = get_backend("cpu").update(plan.kernel, TensorSet("t", torch.zeros(shape), inputs))
    torch.testing.assert_close(found, replay(graph, inputs)[0], equal_nan=True)


# Name -> nodes, the first of them being node `AT`, whose last result has no kernels.
AT = len(op_fuzz.pool((4, 6)))
FILL = call("full.default", [48, 64, 64, 64], op_fuzz.f(1.0))
UNROLLED = {
    "a fill of many axes": [FILL, call("alias.default", n(AT))],
    "strides over one number": [call("as_strided.default", n(23), [1 << 23], [0])],
    "strides that make nothing": [call("as_strided.default", n(23), [1 << 40, 0], [1, 1])],
    "folds of small values": [
        call("full.default", [64, 64], op_fuzz.f(1.0)),
        *(call("neg.default", n(AT + i)) for i in range(65)),
    ],
}


@pytest.mark.parametrize("name", UNROLLED)
def test_what_would_take_the_driver_minutes_has_no_kernels(name: str):
    reader = op_fuzz.reader_of((4, 6))
    reader.extend(UNROLLED[name])
    last = len(reader.nodes) - 1
    reader.extend([call("sum.default", n(last)), call("mul.Tensor", n(0), n(last + 1))])
    with pytest.raises(NotFusable, match=r"small values|strides"):
        lower(reader.graph([last + 2]))
