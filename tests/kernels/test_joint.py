"""Sweeps of many plans in one, and statistics by algebra: the same values as apart, or as a sweep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph, compile_values
from selfdev_engine.kernels.cpu.backend import CpuBackend
from selfdev_engine.kernels.cpu.vm import load_extension
from selfdev_engine.kernels.execution.backend import Backend
from selfdev_engine.kernels.execution.moments import PREFIX, degree, forms_of, summed
from selfdev_engine.kernels.ir import Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.reference import evaluate
from selfdev_engine.kernels.tensors import TensorSet

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
ALL = Space.SCALAR


def total(b: Builder, x: int, space: Space = ALL) -> int:
    return b.add(Op.REDUCE_SUM, x, space=space)


def blend(b: Builder, numbers: list[float]) -> int:
    """numbers[0] + numbers[1] a + ..."""
    x = b.const(numbers[0])
    for name, number in zip("abc", numbers[1:], strict=True):
        x = b.add(Op.ADD, x, b.add(Op.MUL, b.input(name), b.const(number)))
    return x


def exact(graph: KernelGraph, tensors: TensorSet) -> list[float]:
    inputs = {name: tensors.vector(name, torch.float64) for name in tensors.experts}
    return [float(v) for v in evaluate(graph, inputs, tensors.shape2d)]


def sizes(graph: KernelGraph, tensors: TensorSet) -> list[float]:
    """Return, for each output, the sum of the magnitudes of what it sums."""
    b, new = Builder(), []
    for node in graph.nodes:
        args = [new[a] for a in node.args]
        if node.op is Op.REDUCE_SUM:
            args = [b.add(Op.ABS, args[0])]
        space = node.space if node.op in (Op.INPUT, Op.CONST, Op.REDUCE_SUM) else None
        new.append(b.add(node.op, *args, attrs=node.attrs, space=space))
    return exact(b.graph(*(new[o] for o in graph.outputs)), tensors)


@pytest.mark.parametrize("isa", load_extension().isas())
@pytest.mark.parametrize("dtypes", [(BF16,) * 4, (F16, F32, BF16, F16)])
@pytest.mark.parametrize("shape", [(1,), (513,), (37, 53), (3, 70_000)])
def test_moments_are_double(make_tensors, isa, dtypes, shape):
    tensors = make_tensors(shape, dtypes)
    rows = [tensors.vector(name, torch.float64).reshape(-1) for name in "abc"]
    vectors = torch.stack([torch.ones_like(rows[0]), *rows])
    wanted, room = vectors @ vectors.T, vectors.abs() @ vectors.abs().T
    found = CpuBackend(num_threads=2, isa=isa).moments(tensors)
    assert ((found - wanted).abs() <= 1e-12 * room).all()
    assert torch.equal(found, CpuBackend(num_threads=1).moments(tensors))
    by_torch = Backend.moments(get_backend("reference"), tensors)
    assert ((by_torch - wanted).abs() <= 1e-12 * room).all()


@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_moments_of_any_number_of_task_vectors(make_tensors, count):
    made = [make_tensors((31, 40), seed=s).experts["a"] for s in range(count)]
    tensors = TensorSet("t", make_tensors((31, 40)).base, {f"e{i}": e for i, e in enumerate(made)})
    found = get_backend("cpu").moments(tensors)
    wanted = Backend.moments(get_backend("reference"), tensors)
    assert torch.allclose(found, wanted, rtol=1e-12, atol=0)


numbers = st.floats(-4, 4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(numbers, min_size=8, max_size=8), st.booleans(), numbers.filter(bool))
def test_sums_of_blends_are_as_exact_as_the_contract(make_tensors, found, plain, divisor):
    tensors, b = make_tensors((48, 130)), Builder()
    x, y = blend(b, found[:4]), blend(b, found[4:])
    what = x if plain else b.add(Op.SUB, b.add(Op.MUL, x, y), b.add(Op.NEG, y))
    graph = b.graph(total(b, b.add(Op.DIV, what, b.const(divisor))))
    if b.nodes[graph.nodes[graph.outputs[0]].args[0]].space is not Space.FULL:
        return
    for name in ("cpu", "reference"):
        (value,) = get_backend(name).values(compile_values(graph), tensors)
        (wanted,), (room,) = exact(graph, tensors), sizes(graph, tensors)
        assert abs(float(value) - wanted) <= 1e-6 * room


def of_difference(scale: float) -> KernelGraph:
    """|scale (a - b)|^2"""
    b = Builder()
    x, y = (b.add(Op.MUL, b.input(name), b.const(scale)) for name in "ab")
    rest = b.add(Op.SUB, x, y)
    return canonical(b.graph(total(b, b.add(Op.MUL, rest, rest))))


def test_what_cancels_is_swept(make_tensors):
    plain = make_tensors((64, 512), (F32,) * 4)
    near = (plain.experts["a"].double() * (1 + 3e-7)).float()
    tensors = TensorSet("t", plain.base, {**plain.experts, "b": near})
    graph = of_difference(0.7)
    (value,) = get_backend("cpu").values(compile_values(graph), tensors)
    a, b = (tensors.vector(name, F32) for name in "ab")
    eager = (0.7 * a - 0.7 * b).double().square().sum()
    assert abs(float(value) / float(eager) - 1) < 1e-6
    (wanted,) = exact(graph, tensors)
    # and not by algebra, which would be wrong:
    backend = get_backend("cpu")
    (form,) = forms_of(graph, graph.outputs, "abc", [])
    moments = backend.moments(tensors)
    assert degree(graph, graph.outputs[0]) == 2
    assert summed(form, moments.numpy(), moments.diagonal().sqrt().numpy()) is None
    rounded = moments.float().double().numpy()  # as sums in float32 would have it
    assert abs(float(np.vdot(form, rounded)) / wanted - 1) > 1e-3


def test_equal_task_vectors_differ_by_nothing(make_tensors):
    plain = make_tensors((20, 30))
    tensors = TensorSet("t", plain.base, {**plain.experts, "b": plain.experts["a"]})
    (value,) = get_backend("cpu").values(compile_values(of_difference(0.7)), tensors)
    assert float(value) == 0.0


def test_what_is_not_finite_is_swept(make_tensors):
    plain = make_tensors((20, 30), (F32,) * 4)
    plain.experts["a"][3, 4] = torch.inf
    (value,) = get_backend("cpu").values(compile_values(of_difference(0.7)), plain)
    assert float(value) == torch.inf
    tiny = TensorSet("t", torch.zeros(8, 8), {n: torch.full((8, 8), 1e-25) for n in "ab"})
    b = Builder()
    x = b.add(Op.MUL, b.input("a"), b.const(0.5))
    graph = b.graph(total(b, b.add(Op.MUL, x, x)))
    (value,) = get_backend("cpu").values(compile_values(graph), tiny)
    assert float(value) == 0.0  # as in float32: the squares underflow


@pytest.mark.parametrize("build", ["row", "column", "size", "cube", "vector"])
def test_only_sums_of_products_are_polynomials(build):
    b = Builder()
    x = b.input("a")
    row = total(b, x, Space.ROW)
    made = {
        "row": row,
        "column": total(b, x, Space.COL),
        "size": total(b, b.add(Op.ABS, x)),
        "cube": total(b, b.add(Op.MUL, x, b.add(Op.MUL, x, x))),
        "vector": total(b, b.add(Op.MUL, x, row)),
    }
    graph = b.graph(made[build])
    assert degree(graph, graph.outputs[0]) is None


# ---- many plans -----------------------------------------------------------------------------------


def candidate(i: int) -> KernelGraph:
    """Statistics that all share, its own, and one that rests on both."""
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    mixed = blend(b, [0.0, 0.2 + 0.01 * i, 0.3, 0.5 - 0.01 * i])
    norm = b.add(Op.SQRT, total(b, b.add(Op.MUL, x, x)))
    own = total(b, b.add(Op.ABS, mixed))
    top = b.add(Op.REDUCE_MAX, b.add(Op.ABS, y), space=Space.ROW)
    scaled = b.add(Op.DIV, b.add(Op.ABS, mixed), b.add(Op.ADD, top, b.add(Op.MUL, norm, own)))
    median = b.add(Op.KTH, b.add(Op.ABS, z), attrs=(40 + i % 2,), space=ALL)
    kept = b.add(Op.LT, median, b.add(Op.ABS, mixed))
    return b.graph(own, total(b, scaled), total(b, kept), total(b, b.add(Op.MUL, mixed, mixed)))


def test_together_as_apart(make_tensors):
    backend = get_backend("cpu")
    sets = [make_tensors((48, 130), seed=s) for s in range(3)]
    plans = [compile_values(candidate(i)) for i in range(7)]
    apart = [[backend.values(plan, tensors) for plan in plans] for tensors in sets]
    memos = [{} for _ in sets]
    jobs = [(plan, t, m) for t, m in zip(sets, memos, strict=True) for plan in plans]
    together = backend.values_all(*zip(*jobs, strict=True))
    for found, wanted in zip(together, [v for one in apart for v in one], strict=True):
        assert all(map(torch.equal, found, wanted))
    assert all(any(key.startswith(PREFIX) for key in memo) for memo in memos)


def test_a_pass_for_each_level_however_many_plans(make_tensors, monkeypatch):
    backend, passes = get_backend("cpu"), []
    plain = backend.sweep_all

    def counted(graph, sets, slots):
        passes.append(len(graph.outputs))
        return plain(graph, sets, slots)

    monkeypatch.setattr(backend, "sweep_all", counted)
    tensors = make_tensors((48, 130))
    plans, memo = [compile_values(candidate(i)) for i in range(20)], {}
    backend.values_all(plans, [tensors] * 20, [memo] * 20)
    # first |a|^2, the largest of each row, two medians, each plan's own size; then two of each plan
    assert passes == [4 + 20, 2 * 20]
    backend.values_all(plans, [tensors] * 20, [memo] * 20)
    assert len(passes) == 2, "what is known is not swept again"


def test_the_reference_agrees(make_tensors):
    tensors, graph = make_tensors((37, 53)), candidate(3)
    (found,) = get_backend("cpu").values_all([compile_values(graph)], [tensors], [None])
    for value, wanted in zip(found, exact(graph, tensors), strict=True):
        assert abs(float(value) - wanted) <= 1e-5 * wanted  # none of these can cancel


@pytest.mark.parametrize("shape", [(513,), (37, 53), (48, 130)])
@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_the_start_of_an_update(make_tensors, name, shape):
    """With vectors over rows and columns, ranges and draws in it."""
    b = Builder()
    x, y = b.input("a"), b.input("b")
    row, col = total(b, b.add(Op.ABS, y), Space.ROW), total(b, y, Space.COL)
    place = b.add(Op.IN_RANGE, attrs=(3, 30, 2), space=Space.FULL)
    drawn = b.add(Op.RANDOM, attrs=("normal", 7, 0), space=Space.FULL)
    found = b.add(Op.ADD, b.add(Op.MUL, x, row), b.add(Op.MUL, drawn, b.add(Op.MUL, y, col)))
    plan = compile_graph(b.graph(b.add(Op.WHERE, place, found, b.add(Op.MUL, x, drawn))))
    other = compile_graph(b.graph(b.add(Op.MUL, x, b.const(0.5))))
    tensors, backend = make_tensors(shape), get_backend(name)
    num_rows = min(5, tensors.shape2d[0])
    for start, each in zip(
        backend.starts([plan, other], tensors, None, num_rows), [plan, other], strict=True
    ):
        whole = backend.update(each, tensors).reshape(tensors.shape2d)
        assert torch.equal(start, whole[:num_rows])
