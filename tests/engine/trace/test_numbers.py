"""Numbers that float32 does not hold: float64, whole numbers, flat indices, half precision.

Each file of tests/corpus/numbers is one kind of program, and its first line names its tier. The random
programs are those of number_programs.py.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.rules import draws
from selfdev_engine.engine.lower.scope import Scope
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.fuse import NotFused, fused
from selfdev_engine.engine.plans.sums import rest_plan
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.graph import TraceNode
from selfdev_engine.engine.trace.replay import exponential, replay
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import compile_graph, compile_values
from selfdev_engine.kernels.ir import DOUBLE, Builder, Op, Space
from selfdev_engine.kernels.philox import uniform
from selfdev_engine.kernels.tensors import TensorSet

FOLDER = Path(__file__).parents[2] / "corpus" / "numbers"
FILES = sorted(FOLDER.glob("*.py"))
NUM_RANDOM = 30


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


number_programs = load("number_programs")


@pytest.fixture(scope="module", autouse=True)
def one_sandbox(judge):
    """The random programs are traced by the judge of all tests."""
    number_programs.judge = lambda: judge


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_right_in_its_tier(judge, path):
    text = path.read_text()
    found = judge.verdict(text)
    assert not found.eager_error, found.eager_error
    assert not found.faults, (found.tier, found.faults)
    assert text.startswith(f"# expect: ok {found.tier}\n"), (found.tier, found.reason)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_reference_means_the_same(judge, path):
    """All backends agree: the update of the float64 definition is that of the kernels."""
    tensors = judge.tensors((24, 40))
    trace = judge.trace(path.read_text(), tensors)
    try:
        plan = compile_graph(lower(trace.graph))
    except NotFusable:
        return
    wanted = get_backend("reference").update(plan, tensors)
    found = judge.backend.update(plan, tensors)
    wide = replay(trace.graph, {n: t.double() for n, t in tensors.experts.items()}, wide=True)[0]
    assert not number_programs.far(found, wanted)
    assert not number_programs.far(wanted, wide.reshape(wanted.shape))


def test_random_programs():
    ended = set()
    for seed in range(NUM_RANDOM):
        outcome = number_programs.attempt(seed)
        assert not outcome.fault, (seed, outcome.graph, outcome.fault)
        ended.add(outcome.ended)
    assert ended >= {"fused", "hybrid"}


CHECKERBOARD = """
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    rows, cols = a.shape
    place = torch.arange(rows)[:, None] * cols + torch.arange(cols)
    return torch.where(place % 2 == 0, a, b)
"""
COUNT = """
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return a * (1 + (a > -9).sum() % 2)
"""


@pytest.mark.parametrize(("shape", "tier"), [((512, 1024), "fused"), ((4096, 14336), "hybrid")])
def test_flat_places_are_fused_while_float32_counts_them(judge, shape, tier):
    """No tensor is made: the bounds of the places decide."""
    trace = judge.tracer.trace(
        extract(CHECKERBOARD), ("a", "b", "c"), shape, seed=0, tensor_name="t", answer=None
    )
    if tier == "fused":
        lower(trace.graph)
    else:
        with pytest.raises(NotFusable, match="beyond 2\\^24"):
            lower(trace.graph)


@pytest.mark.slow
@pytest.mark.parametrize("code", [CHECKERBOARD, COUNT], ids=["places", "count"])
def test_more_than_2_to_24_elements(judge, code):
    rows, cols = 4097, 4099
    draw = torch.Generator().manual_seed(0)
    experts = {n: torch.randn(rows, cols, generator=draw) * 1e-2 for n in "abc"}
    tensors = TensorSet("t", torch.zeros(rows, cols), experts)
    trace = judge.tracer.trace(
        extract(code), ("a", "b", "c"), (rows, cols), seed=0, tensor_name="t", answer=None
    )
    wanted = number_programs.eager(code, experts, torch.float32)
    try:
        found = judge.backend.update(compile_graph(lower(trace.graph)), tensors)
    except NotFusable:
        (found,) = replay(trace.graph, experts)
    assert torch.equal(found, wanted)


ZEROS, ONES, TRUTHS = ("0.0", "-0.0", "0.0"), ("1", "1.0", "True", "1"), ("1", "True", "1")


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("torch.atan2(torch.full_like(a, Z), -1.0 - a.abs())", ZEROS),
        ("torch.atan2(torch.tensor([Z, -Z])[:1], -1.0 - a.abs())", ZEROS),
        ("torch.atan2(torch.tensor([0.0, -0.0, Z])[1], -1.0 - a.abs())", ZEROS),
        ("(1.0 / torch.where(a > 0, Z, a)).clamp(-5, 5)", ZEROS),
        ("torch.where(a > 0, Z, a).reciprocal().clamp(-5, 5)", ZEROS),
        ("torch.copysign(a, Z)", ZEROS),
        ("torch.copysign(a, torch.full_like(a, Z))", ZEROS),
        ("torch.atan2(torch.full_like(a, Z), -a.norm()) + a.sum()", ZEROS),
        ("a * math.atan2(Z * a.norm().item(), -1.0)", ZEROS),
        ("a * torch.full(a.shape, Z).element_size()", ONES),
        ("(~torch.full(a.shape, Z)).float() + a", TRUTHS),
    ],
)
def test_a_number_is_not_taken_for_its_equal(judge, form, numbers):
    """All in one process: what is kept of the first program is no answer for the second."""
    tensors = judge.tensors((6, 4))
    for number in numbers:
        line = form.replace("Z", number)
        text = (
            "import math\nimport torch\ndef merge_models(d, device):\n"
            f"    a, b, c = d.values()\n    return {line}\n"
        )
        trace = judge.trace(text, tensors)
        plan = fused(trace.graph, trace.view)
        (found,) = (
            replay(trace.graph, tensors.experts)
            if isinstance(plan, NotFused)
            else [judge.backend.update(plan.kernel, tensors)]
        )
        assert torch.allclose(found, judge.eager(text, tensors, 0), rtol=1e-6), line


def test_a_rest_is_that_of_its_own_guess():
    b = Builder()
    x = b.input("x")
    graph = b.graph(b.add(Op.ATAN2, b.add(Op.SUB, x, x), x))
    plans = [rest_plan(graph, ("x",), (guess,)) for guess in (0.0, -0.0)]
    assert [math.copysign(1.0, plan.params[-1]) for plan in plans] == [1.0, -1.0]


# ---- what kernels promise ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_double_op_on_small_values_keeps_its_digits(backend):
    b = Builder()
    total = b.add(Op.REDUCE_SUM, b.input("x"), space=Space.SCALAR)
    large = b.add(Op.ADD, total, b.const(1e8), attrs=DOUBLE)
    graph = b.graph(b.add(Op.SUB, large, b.const(1e8), attrs=DOUBLE))
    x = torch.full((4, 8), 2.0**-10)
    tensors = TensorSet("t", torch.zeros(4, 8), {"x": x})
    (value,) = get_backend(backend).values(compile_values(graph), tensors)
    assert abs(float(value) - float(x.sum())) < 1e-7


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_no_exponential_draw_is_zero(backend):
    """A uniform number of this key is zero, and a program may take the logarithm of its draw."""
    seed, at = 283, 50919
    numbers = uniform(seed, 0, at + 1)
    assert numbers[at] == 0
    drawn = exponential(numbers, 2.0)
    assert (drawn > 0).all()

    scope = Scope((at + 1,))
    node = TraceNode("aten.exponential.default", shape=(at + 1,), dtype=torch.float32)
    value = draws.exponential(scope, node, None, 2.0, draw=seed)
    plan = compile_graph(scope.builder.graph(int(value.cells)))
    zeros = torch.zeros(at + 1)
    found = get_backend(backend).update(plan, TensorSet("t", zeros, {"x": zeros}))
    assert torch.allclose(found, drawn, rtol=1e-6, atol=0)
