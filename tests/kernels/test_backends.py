"""Every backend against the float64 reference, by the update; cheats must be told apart."""

from __future__ import annotations

import hashlib
import multiprocessing
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph, compile_values
from selfdev_engine.kernels.cpu.backend import CpuBackend
from selfdev_engine.kernels.cpu.vm import load_extension
from selfdev_engine.kernels.errors import BackendError
from selfdev_engine.kernels.ir import Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.reference import evaluate
from selfdev_engine.kernels.stages import num_passes, plan_bytes
from selfdev_engine.kernels.tensors import TensorSet

SHAPES = [(1,), (7,), (511,), (513,), (37, 53), (48, 130), (3, 70_000)]
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
MIXES = [(BF16,) * 4, (F16,) * 4, (F32,) * 4, (BF16, F32, F16, BF16), (F32, BF16, BF16, F16)]
ALL, ROW, COL = Space.SCALAR, Space.ROW, Space.COL
UNARY = [Op.NEG, Op.ABS, Op.SIGN, Op.TANH, Op.EXP, Op.ATAN, Op.ERF, Op.SIN]
BINARY = [Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN]


def sweep_and_apply() -> KernelGraph:
    """Norms, a row maximum, column sums, a k-th value, masks: all kinds of stages."""
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    norm = b.add(Op.SQRT, b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=ALL))
    top = b.add(Op.REDUCE_MAX, b.add(Op.ABS, y), space=ROW)
    mean = b.add(Op.REDUCE_SUM, z, space=COL)
    median = b.add(Op.KTH, b.add(Op.ABS, z), attrs=(1,), space=ALL)
    keep = b.add(Op.LT, median, b.add(Op.ABS, z))
    kept = b.add(Op.WHERE, keep, z, b.const(0.0))
    scaled = b.add(Op.DIV, b.add(Op.MUL, x, b.add(Op.REDUCE_MIN, y, space=ALL)), norm)
    total = b.add(Op.ADD, b.add(Op.MUL, y, top), b.add(Op.MUL, b.const(0.3), kept))
    return b.graph(b.add(Op.ADD, b.add(Op.ADD, total, scaled), b.add(Op.MUL, mean, x)))


def exact(graph: KernelGraph, tensors) -> torch.Tensor:
    inputs = {name: tensors.vector(name, torch.float64) for name in tensors.experts}
    (update,) = evaluate(graph, inputs, tensors.shape2d)
    return update.expand(tensors.shape2d).reshape(tensors.base.shape)


def ulps(found: torch.Tensor, wanted: torch.Tensor) -> int:
    """Largest distance in units of the last place; all of one dtype."""
    kind = torch.int32 if found.dtype is F32 else torch.int16

    def ordered(x: torch.Tensor) -> torch.Tensor:
        bits = x.contiguous().view(kind).long()
        least = -(1 << (8 * x.element_size() - 1))
        return torch.where(bits < 0, least - bits, bits)

    return int((ordered(found) - ordered(wanted)).abs().max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtypes", MIXES)
def test_all_kinds_of_stages(make_tensors, poisoned, update_error, shape, dtypes):
    tensors, graph = make_tensors(shape, dtypes), sweep_and_apply()
    plan, wanted = compile_graph(graph), exact(graph, tensors)
    backend = get_backend("cpu")
    assert update_error(backend.update(plan, tensors), wanted) < 1e-5
    out, whole = poisoned(tensors.base)
    assert backend.merge(plan, tensors, out)
    rounded = (tensors.base.double() + wanted).to(tensors.base.dtype)
    if tensors.base.dtype is F32:  # near zero a sum's last place says little
        own = 1e-6 * wanted.square().mean().sqrt()
        room = own + 2**-22 * (tensors.base.double().abs() + wanted.abs())
        assert ((out.double() - tensors.base.double() - wanted).abs() <= room).all()
    else:
        assert ulps(out, rounded) <= 1
    assert whole[:64].isnan().all()
    assert whole[-64:].isnan().all()


def test_the_comparison_refuses_cheats(make_tensors, update_error):
    tensors, graph = make_tensors((37, 53)), sweep_and_apply()
    wanted = exact(graph, tensors)
    for cheat in (torch.zeros_like(wanted), 0.9 * wanted, -wanted, wanted.roll(1)):
        assert update_error(cheat, wanted) > 1e-2


@st.composite
def graphs(draw) -> KernelGraph:
    """Random graphs of ops that do not blow up, with reductions in between."""
    b = Builder()
    number = draw(st.floats(-2, 2, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3))
    values = [b.input(name) for name in "abc"] + [b.const(number)]  # no product underflows
    for _ in range(draw(st.integers(1, 14))):
        pick = st.sampled_from(values)
        kind = draw(st.integers(0, 5))
        if kind == 0:
            values.append(b.add(draw(st.sampled_from(UNARY)), draw(pick)))
        elif kind <= 2:
            values.append(b.add(draw(st.sampled_from(BINARY)), draw(pick), draw(pick)))
        elif kind == 3:
            test = b.add(draw(st.sampled_from([Op.LT, Op.LE])), draw(pick), draw(pick))
            values.append(b.add(Op.WHERE, test, draw(pick), draw(pick)))
        else:
            full = [v for v in values if b.nodes[v].space is Space.FULL]
            op = draw(st.sampled_from([Op.REDUCE_SUM, Op.REDUCE_MAX, Op.REDUCE_MIN]))
            space = draw(st.sampled_from([ALL, ROW, COL]))
            values.append(b.add(op, draw(st.sampled_from(full)), space=space))
    return b.graph(values[-1])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), shape=st.sampled_from(SHAPES[:-1]), seed=st.integers(0, 99))
def test_random_graphs(make_tensors, graph, shape, seed):
    """Within 1e-5 of the update, or 4 times what float32 itself gets wrong, flips aside."""
    tensors = make_tensors(shape, seed=seed)
    wanted = exact(graph, tensors)
    inputs = {name: tensors.vector(name, F32) for name in tensors.experts}
    (single,) = evaluate(graph, inputs, tensors.shape2d, dtype=F32)
    single = single.expand(tensors.shape2d).reshape(tensors.base.shape)
    found = CpuBackend().update(compile_graph(graph), tensors)
    far = (single.double() - wanted).abs() > 0.05 * (wanted.abs() + wanted.square().mean().sqrt())
    assume(far.double().mean() < 0.05 or far.sum() <= 1)  # a - tanh(a): float32 is all rounding
    own = (single.double() - wanted)[~far].norm()
    error = (found.double() - wanted)[~far].norm()
    assert error <= max(1e-5 * wanted.norm() + 1e-30, 4 * own)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), seed=st.integers(0, 99))
def test_canonical_keeps_the_meaning(make_tensors, update_error, graph, seed):
    tensors = make_tensors((5, 9), seed=seed)
    assert update_error(exact(canonical(graph), tensors), exact(graph, tensors)) < 1e-6
    assert canonical(canonical(graph)).fingerprint == canonical(graph).fingerprint


@pytest.mark.parametrize("isa", load_extension().isas())
def test_sums_have_the_same_bits_everywhere(make_tensors, isa):
    tensors = make_tensors((3, 70_001))
    plan = compile_values(two_sums())
    wanted = CpuBackend(num_threads=1, isa="portable").values(plan, tensors)
    for threads in (1, 2, 3):
        assert CpuBackend(threads, isa).values(plan, tensors) == wanted


def two_sums() -> KernelGraph:
    b = Builder()
    x, y = b.input("a"), b.input("b")
    dot = b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, y), space=ALL)
    return b.graph(dot, b.add(Op.REDUCE_SUM, b.add(Op.ABS, x), space=ALL))


def test_sums_are_close_to_float64(make_tensors):
    tensors = make_tensors((1000, 1001))
    dot, size = get_backend("cpu").values(compile_values(two_sums()), tensors)
    x, y = (tensors.vector(name, torch.float64) for name in "ab")
    assert abs(dot - (x * y).sum()) < 1e-6 * (x * y).abs().sum()
    assert abs(size - x.abs().sum()) < 1e-6 * x.abs().sum()


@pytest.mark.parametrize("k", [1, 2, 1000, 35_000, 69_999, 70_000])
@pytest.mark.parametrize("sign", [Op.ABS, Op.NEG])
def test_order_statistics_are_exact(make_tensors, k, sign):
    tensors = make_tensors((7, 10_000))
    b = Builder()
    graph = b.graph(b.add(Op.KTH, b.add(sign, b.input("a")), attrs=(k,), space=ALL))
    (found,) = get_backend("cpu").values(compile_values(graph), tensors)
    x = tensors.vector("a", F32).flatten()
    assert found == (x.abs() if sign is Op.ABS else -x).kthvalue(k).values


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(1, 4099), (37, 53)])
def test_draws_are_the_references(make_tensors, kind, shape):
    b = Builder()
    row = b.add(Op.REDUCE_MAX, b.input("a"), space=ROW)  # forces tiles by row
    draw = b.add(Op.RANDOM, attrs=(kind, 2**40 + 7, 3), space=Space.FULL)
    graph = b.graph(b.add(Op.ADD, draw, b.add(Op.MUL, row, b.const(0.0))))
    tensors = make_tensors(shape)
    found = get_backend("cpu").update(compile_graph(graph), tensors)
    torch.testing.assert_close(found, exact(graph, tensors).float(), rtol=2e-5, atol=2e-6)


def test_philox_is_the_published_one():
    from selfdev_engine.kernels.philox import words

    assert [hex(w) for w in words(0, 0, 4)] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]


def test_a_nan_or_inf_is_seen(make_tensors):
    b = Builder()
    x = b.input("a")
    for graph in (
        b.graph(b.add(Op.DIV, x, b.add(Op.SUB, x, x))),
        b.graph(b.add(Op.MUL, x, b.const(1e38))),
        b.graph(b.add(Op.LOG, x)),
    ):
        for dtypes in MIXES[:3]:
            tensors = make_tensors((37, 53), dtypes)
            large = graph.nodes[-1].op is Op.MUL and dtypes[0] is not F16
            found = get_backend("cpu").merge(compile_graph(graph), tensors, tensors.base.clone())
            assert found == large


def test_what_rounds_to_infinity_is_seen():
    from selfdev_engine.kernels.tensors import TensorSet

    b = Builder()
    plan = compile_graph(b.graph(b.input("a")))
    for dtype, fits, bursts in ((BF16, 3.3895e38, 3.3999e38), (F16, 65519.0, 65520.0)):
        for value, finite in ((fits, True), (bursts, False), (-bursts, False)):
            tensors = TensorSet("t", torch.zeros(9, dtype=dtype), {"a": torch.full((9,), value)})
            assert get_backend("cpu").merge(plan, tensors, tensors.base.clone()) is finite


def test_no_update_is_the_base_bit_for_bit(make_tensors):
    b = Builder()
    plan = compile_graph(b.graph(b.const(0.0)))
    for dtypes in MIXES:
        tensors = make_tensors((37, 53), dtypes)
        tensors.base.view(-1)[0] = 1e-40 if dtypes[0] is F32 else 6e-8
        out = torch.full_like(tensors.base, torch.nan)
        assert get_backend("cpu").merge(plan, tensors, out)
        assert torch.equal(out, tensors.base)


def test_all_16_bit_values_survive():
    from selfdev_engine.kernels.tensors import TensorSet

    b = Builder()
    plan = compile_graph(b.graph(b.const(0.0)))
    for dtype in (BF16, F16):
        every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
        every = torch.where(every.isfinite(), every, 0)
        out = torch.full_like(every, torch.nan)
        get_backend("cpu").merge(plan, TensorSet("t", every, {"a": every}), out)
        assert torch.equal(out.float(), every.float())


def test_importing_the_extension_leaves_subnormals_alone():
    load_extension()
    assert np.float32(1e-40) * np.float32(1) > 0
    assert torch.tensor(1e-40) * 1 > 0


def in_child(queue, tensors, plan):
    queue.put(digest(CpuBackend(num_threads=2), plan, tensors))


def digest(backend, plan, tensors) -> str:
    """By numpy and hashlib: torch's own threads do not survive a fork."""
    return hashlib.sha256(backend.update(plan, tensors).numpy().tobytes()).hexdigest()


def test_a_forked_child_can_compute(make_tensors):
    tensors, plan = make_tensors((64, 20_000)), compile_graph(sweep_and_apply())
    wanted = digest(CpuBackend(num_threads=2), plan, tensors)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=in_child, args=(queue, tensors, plan))
    child.start()
    assert queue.get() == wanted
    child.join(30)
    assert child.exitcode == 0


def test_bytes_are_counted_from_the_plan():
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    plan = compile_graph(b.graph(b.add(Op.ADD, b.add(Op.ADD, x, y), z)))
    sizes = dict.fromkeys(("base", *"abc"), 2)
    assert plan_bytes(plan, (1024, 1024), sizes) == (1024 * 1024 * 4 * 2, 1024 * 1024 * 2)
    assert num_passes(plan) == 1
    plan = compile_graph(b.graph(b.add(Op.MUL, x, b.add(Op.REDUCE_SUM, y, space=ALL))))
    assert plan_bytes(plan, (10, 10), sizes) == (100 * (2 + 2) + 100 * (2 + 2), 100 * 2)


def test_equal_meaning_has_one_fingerprint():
    def built(order: str, swap: bool) -> str:
        b = Builder()
        known = {name: b.input(name) for name in order}
        half = b.add(Op.MUL, b.const(0.5), known["a"])
        pair = (known["b"], half) if swap else (half, known["b"])
        return canonical(b.graph(b.add(Op.ADD, *pair))).fingerprint

    assert built("ab", False) == built("ba", True) != built("ab", False)[::-1]


def test_a_memo_saves_the_sweep(make_tensors):
    tensors, plan, memo = make_tensors((37, 53)), compile_graph(sweep_and_apply()), {}
    backend = get_backend("cpu")
    first = backend.update(plan, tensors, memo)
    assert memo
    poison = {key: torch.full_like(value, torch.nan) for key, value in memo.items()}
    assert torch.equal(backend.update(plan, tensors, memo), first)
    assert backend.update(plan, tensors, poison).isnan().any()


def test_equal_branches_keep_their_space():
    """A row chosen either way under a full mask still counts once per column in a sum."""
    b = Builder()
    row = b.add(Op.REDUCE_MAX, b.input("a"), space=ROW)
    chosen = b.add(Op.WHERE, b.add(Op.LT, b.input("a"), b.input("b")), row, row)
    graph = b.graph(b.add(Op.REDUCE_SUM, chosen, space=ALL))
    inputs = {name: torch.randn(4, 7, dtype=torch.float64) for name in "ab"}
    (found,), (wanted,) = (evaluate(g, inputs, (4, 7)) for g in (canonical(graph), graph))
    assert torch.allclose(found, wanted)
    assert wanted.abs() > 1e-6


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_rounded_statistic_is_equal_to_its_element(backend):
    """A program may ask for a number and look for it: it comes back as float32 holds it."""
    x = torch.tensor([[1.0, 2.0, 5.0], [7.0, 3.0, 1.0]])
    third = x / 3
    b = Builder()
    mean = b.add(Op.DIV, b.input("a"), b.const(3.0))
    found = b.add(Op.LE, b.const(float(third.max())), mean)
    same = b.add(Op.EQ, b.const(float(third.min())), mean)
    tensors = TensorSet("t", torch.zeros(2, 3), {"a": x})
    plan = compile_graph(b.graph(b.add(Op.ADD, found, same)))
    wanted = (third >= third.max()).float() + (third == third.min()).float()
    assert torch.equal(get_backend(backend).update(plan, tensors), wanted)


def test_an_unknown_backend_is_named():
    with pytest.raises(BackendError, match="abacus"):
        get_backend("abacus")


def test_threads_default_to_the_cores_we_may_use():
    assert CpuBackend().vm.num_threads == len(os.sched_getaffinity(0))
