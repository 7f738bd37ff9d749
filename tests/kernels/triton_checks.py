"""The Triton backend against the float64 reference; by real kernels on a GPU, else by the interpreter.

Not collected by its name: Triton decides at its first import whether it interprets, so test_triton.py
runs this file in a process of its own.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import compile_graph, compile_values
from selfdev_engine.kernels.digest import digest
from selfdev_engine.kernels.ir import BINARY, UNARY, Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.reference import evaluate
from selfdev_engine.kernels.tensors import Job, TensorSet
from selfdev_engine.kernels.triton import reductions
from selfdev_engine.kernels.triton.digest import digests

GPU = torch.cuda.is_available()
TRITON = get_backend("triton")
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
MIXES = [(BF16,) * 4, (F32,) * 4, (BF16, F32, F16, BF16)]
SHAPES = [(1,), (9,), (37, 53), (40, 136), (3, 2500)] if GPU else [(9,), (37, 53), (16, 136)]
CASES = [(s, m) for s in SHAPES for m in MIXES if GPU or m is MIXES[0] or s == (37, 53)]
ALL, ROW, COL = Space.SCALAR, Space.ROW, Space.COL
ABSENT = pytest.mark.skipif(not GPU, reason="no CUDA device: only kernels on a GPU can show it")


def moved(tensors: TensorSet) -> TensorSet:
    """Return the tensors on the GPU, if there is one."""
    experts = {name: t.to(TRITON.device) for name, t in tensors.experts.items()}
    return TensorSet(tensors.name, tensors.base.to(TRITON.device), experts)


def exact(
    graph: KernelGraph, tensors: TensorSet, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    inputs = {name: tensors.vector(name, dtype).cpu() for name in tensors.experts}
    (update,) = evaluate(graph, inputs, tensors.shape2d, dtype=dtype)
    return update.expand(tensors.shape2d).reshape(tensors.base.shape)


def all_stages() -> KernelGraph:
    """Reductions of all kinds and directions, two levels of them, a k-th value, masks, a draw."""
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    norm = b.add(Op.SQRT, b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=ALL))
    top = b.add(Op.REDUCE_MAX, b.add(Op.ABS, y), space=ROW)
    mean = b.add(Op.REDUCE_SUM, z, space=COL)
    least = b.add(Op.REDUCE_MIN, x, space=COL)
    spread = b.add(Op.REDUCE_SUM, b.add(Op.ABS, b.add(Op.SUB, y, mean)), space=ALL)
    rank = b.add(Op.KTH, b.add(Op.ABS, z), attrs=(1,), space=ALL)
    kept = b.add(Op.WHERE, b.add(Op.LT, rank, b.add(Op.ABS, z)), z, b.const(0.0))
    scaled = b.add(Op.DIV, b.add(Op.MUL, x, b.add(Op.REDUCE_MIN, y, space=ALL)), norm)
    total = b.add(Op.ADD, b.add(Op.MUL, y, top), b.add(Op.MUL, b.const(0.3), kept))
    draw = b.add(Op.RANDOM, attrs=("uniform", 77, 0), space=Space.FULL)
    total = b.add(Op.ADD, total, b.add(Op.MUL, draw, b.add(Op.MUL, x, b.const(0.1))))
    first = b.add(Op.IN_RANGE, attrs=(0, 700, 3), space=Space.FULL)
    total = b.add(Op.ADD, total, b.add(Op.MUL, first, b.add(Op.DIV, x, spread)))
    by_column = b.add(Op.MUL, b.add(Op.SUB, mean, least), x)
    return b.graph(b.add(Op.ADD, b.add(Op.ADD, total, scaled), by_column))


@pytest.mark.parametrize(("shape", "dtypes"), CASES)
def test_all_stages(make_tensors, poisoned, update_error, shape, dtypes):
    tensors, graph = make_tensors(shape, dtypes), all_stages()
    plan, wanted = compile_graph(graph), exact(graph, tensors)
    found = TRITON.update(plan, moved(tensors))
    assert update_error(found, wanted) < 1e-5
    for cheat in (torch.zeros_like(wanted), 0.9 * wanted):
        assert update_error(cheat, wanted) > 1e-2
    out, whole = poisoned(tensors.base)
    out, whole = guarded(out, whole)
    assert TRITON.merge(plan, moved(tensors), out)
    assert whole[:64].isnan().all()
    assert whole[-64:].isnan().all()
    if dtypes[0] is BF16:
        rounded = (tensors.base.double() + wanted).to(BF16)
        off = out.cpu().view(torch.int16).int() - rounded.view(torch.int16).int()
        assert off.abs().max() <= 1


def guarded(out: torch.Tensor, whole: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and the memory around it on the device."""
    whole = whole.to(TRITON.device)
    return whole[64:-64].view(out.shape), whole


@st.composite
def graphs(draw) -> KernelGraph:
    b = Builder()
    number = draw(st.floats(-2, 2, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3))
    values = [b.input(name) for name in "abc"] + [b.const(number)]
    for _ in range(draw(st.integers(1, 10))):
        pick = st.sampled_from(values)
        kind = draw(st.integers(0, 4))
        if kind == 0:
            values.append(b.add(draw(st.sampled_from([Op.NEG, Op.ABS, Op.SIGN])), draw(pick)))
        elif kind == 1:
            op = draw(st.sampled_from([Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN]))
            values.append(b.add(op, draw(pick), draw(pick)))
        elif kind == 2:
            test = b.add(draw(st.sampled_from([Op.LT, Op.LE])), draw(pick), draw(pick))
            values.append(b.add(Op.WHERE, test, draw(pick), draw(pick)))
        else:
            full = [v for v in values if b.nodes[v].space is Space.FULL]
            op = draw(st.sampled_from([Op.REDUCE_SUM, Op.REDUCE_MAX, Op.REDUCE_MIN]))
            space = draw(st.sampled_from([ALL, ROW, COL]))
            values.append(b.add(op, draw(st.sampled_from(full)), space=space))
    return b.graph(values[-1])


@settings(
    max_examples=60 if GPU else 15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(graph=graphs(), shape=st.sampled_from(SHAPES[:3]), seed=st.integers(0, 99))
def test_random_graphs(make_tensors, graph, shape, seed):
    """Within 1e-5 of the update, or 4 times what float32 itself gets wrong, flips aside."""
    tensors = make_tensors(shape, seed=seed)
    wanted, single = exact(graph, tensors), exact(graph, tensors, F32)
    found = TRITON.update(compile_graph(graph), moved(tensors))
    far = (single.double() - wanted).abs() > 0.05 * (wanted.abs() + wanted.square().mean().sqrt())
    own = (single.double() - wanted)[~far].norm()
    error = (found.double() - wanted)[~far].norm()
    assert error <= max(1e-5 * wanted.norm() + 1e-30, 4 * own)


GRID = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    0.1,
    3.0,
    -7.3,
    1e-3,
    40.0,
    float("inf"),
    float("nan"),
]


@pytest.mark.parametrize("op", sorted(UNARY))
def test_every_unary_op(op):
    check_op(op, torch.tensor([*GRID, *(-x for x in GRID)]))


@pytest.mark.parametrize("op", sorted(BINARY))
def test_every_binary_op(op):
    x, y = torch.meshgrid(torch.tensor(GRID), torch.tensor(GRID), indexing="ij")
    check_op(op, x.reshape(-1).contiguous(), y.reshape(-1).contiguous())


@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("first", [True, False])
def test_every_binary_op_with_a_number(op, first):
    """The number is one of the kernel's arguments, not a block."""
    x, b = torch.rand(4, 8) + 0.1, Builder()
    pair = [b.input("a"), b.const(0.5)]
    graph = b.graph(b.add(op, *(pair if first else reversed(pair))))
    tensors = TensorSet("t", torch.zeros_like(x), {"a": x})
    found = TRITON.update(compile_graph(graph), moved(tensors))
    torch.testing.assert_close(found.cpu(), exact(graph, tensors).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "op", [Op.TANH, Op.EXPM1, Op.LOG1P, Op.SIN, Op.ASIN, Op.ATAN, Op.ERF, Op.SQRT, Op.ABS]
)
def test_small_numbers_keep_their_digits(op):
    """A rank among products of tiny numbers depends on all of them."""
    x = torch.logspace(-30, -1, 300)
    x, b = torch.cat([x, -x]) if op is not Op.SQRT else x, Builder()
    graph, tensors = b.graph(b.add(op, b.input("a"))), TensorSet("t", torch.zeros_like(x), {"a": x})
    found = TRITON.update(compile_graph(graph), moved(tensors)).cpu()
    torch.testing.assert_close(found, exact(graph, tensors).float(), rtol=3e-6, atol=0)


def check_op(op: Op, x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    b = Builder()
    given = {"a": x} if y is None else {"a": x, "b": y}
    graph = b.graph(b.add(op, *(b.input(name) for name in given)))
    tensors = TensorSet("t", torch.zeros_like(x), given)
    wanted = exact(graph, tensors).float()
    found = TRITON.update(compile_graph(graph), moved(tensors))
    torch.testing.assert_close(found, wanted, rtol=3e-6, atol=1e-6, equal_nan=True)


def odd_sets(make_tensors) -> list[TensorSet]:
    """Sizes around 8 and a chunk; one whose addresses are odd."""
    sets = [
        make_tensors(shape, seed=k)
        for k, shape in enumerate([(4200,), (8,), (7,), (16, 64), (33, 31)])
    ]
    sets = [moved(one) for one in sets]
    bare = torch.randn(1234, dtype=BF16, device=TRITON.device)
    odd = bare[1:]
    sets.append(
        TensorSet(
            "odd", odd, {name: (odd + 0.01 * k).contiguous() for k, name in enumerate("abc", 1)}
        )
    )
    return sets


def test_many_tensors_in_one_launch(make_tensors):
    """The same bits as one after the other, and nothing behind the outputs."""
    sets, plan = odd_sets(make_tensors), compile_graph(all_stages())
    memory = [
        torch.full((s.base.numel() + 16,), torch.nan, dtype=BF16, device=TRITON.device)
        for s in sets
    ]
    outs = [m[8:-8].view(s.base.shape) for m, s in zip(memory, sets, strict=True)]
    jobs = [Job(plan, s, out) for s, out in zip(sets, outs, strict=True)]
    assert TRITON.merge_all(jobs) == [True] * len(sets)
    for tensors, out, whole in zip(sets, outs, memory, strict=True):
        alone = torch.full_like(tensors.base, torch.nan)
        assert TRITON.merge(plan, tensors, alone)
        assert torch.equal(out, alone)
        assert not torch.equal(out, tensors.base)
        assert whole[:8].isnan().all()
        assert whole[-8:].isnan().all()


def test_a_flag_names_its_tensor(make_tensors):
    sets = odd_sets(make_tensors)
    sets[1].experts["a"].view(-1)[3] = torch.inf
    b = Builder()
    plan = compile_graph(b.graph(b.input("a")))
    jobs = [Job(plan, s, torch.empty_like(s.base)) for s in sets]
    assert TRITON.merge_all(jobs) == [True, False, True, True, True, True]


def test_what_rounds_to_infinity_is_seen():
    b = Builder()
    plan = compile_graph(b.graph(b.input("a")))
    for dtype, fits, bursts in ((BF16, 3.3895e38, 3.3999e38), (F16, 65519.0, 65520.0)):
        for value, finite in ((fits, True), (bursts, False), (-bursts, False)):
            tensors = TensorSet("t", torch.zeros(9, dtype=dtype), {"a": torch.full((9,), value)})
            assert TRITON.merge(plan, moved(tensors), torch.empty(9, dtype=dtype)) is finite


def test_all_16_bit_values_survive():
    b = Builder()
    plan = compile_graph(b.graph(b.const(0.0)))
    for dtype in (BF16, F16):
        every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
        every = torch.where(every.isfinite(), every, 0)
        out = torch.full_like(every, torch.nan)
        TRITON.merge(plan, moved(TensorSet("t", every, {"a": every})), out)
        assert torch.equal(out.float(), every.float())


def test_sums_are_close_to_float64(make_tensors):
    tensors = make_tensors((4000, 5000) if GPU else (37, 1001))
    b = Builder()
    x, y = b.input("a"), b.input("b")
    dot = b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, y), space=ALL)
    graph = b.graph(dot, b.add(Op.REDUCE_SUM, b.add(Op.ABS, x), space=ALL))
    found = TRITON.values(compile_values(graph), moved(tensors))
    u, v = (tensors.vector(name, torch.float64) for name in "ab")
    for value, wanted, size in zip(
        found, ((u * v).sum(), u.abs().sum()), ((u * v).abs().sum(), u.abs().sum()), strict=True
    ):
        assert abs(value - wanted) < 1e-6 * size
    again = TRITON.values(compile_values(graph), moved(tensors))
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


def candidate(index: int) -> KernelGraph:
    """A statistic that all share, sums of its own blend, and one that rests on one of them."""
    b = Builder()
    x, y = b.input("a"), b.input("b")
    blend = b.add(
        Op.ADD, b.add(Op.MUL, x, b.const(0.2 + 0.1 * index)), b.add(Op.MUL, y, b.const(0.5))
    )
    square = b.add(Op.REDUCE_SUM, b.add(Op.MUL, blend, blend), space=ALL)
    size = b.add(Op.REDUCE_SUM, b.add(Op.ABS, blend), space=ALL)
    share = b.add(Op.REDUCE_SUM, b.add(Op.DIV, b.add(Op.ABS, blend), size), space=ALL)
    top = b.add(Op.REDUCE_MAX, b.add(Op.ABS, b.input("c")), space=ROW)
    return b.graph(square, share, b.add(Op.REDUCE_SUM, b.add(Op.DIV, x, top), space=ALL))


@pytest.mark.parametrize("move", [moved, lambda tensors: tensors], ids=["device", "host"])
def test_many_plans_of_a_tensor(make_tensors, move):
    """Together as apart; the squares by the tensor's moments, on whose side it may lie."""
    tensors = move(make_tensors((37, 53)))
    graphs = [candidate(index) for index in range(4)]
    plans, memo = [compile_values(graph) for graph in graphs], {}
    together = TRITON.values_all(plans, [tensors] * 4, [memo] * 4)
    assert any(key.startswith("moment") for key in memo)
    inputs = {name: tensors.vector(name, torch.float64).cpu() for name in "abc"}
    for graph, plan, found in zip(graphs, plans, together, strict=True):
        assert all(map(torch.equal, found, TRITON.values(plan, tensors)))
        square, share, _ = evaluate(graph, inputs, tensors.shape2d)
        assert found[0].cpu().item() == pytest.approx(square.item(), 1e-6)
        assert found[1].cpu().item() == pytest.approx(share.item(), 1e-6)


@pytest.mark.parametrize("op", [Op.REDUCE_MAX, Op.REDUCE_MIN])
@pytest.mark.parametrize("space", [ALL, ROW, COL])
def test_nan_wins_in_extremes(make_tensors, op, space):
    tensors = make_tensors((20, 40), (F32,) * 4)
    tensors.experts["a"][3, 5] = torch.nan
    b = Builder()
    graph = b.graph(b.add(op, b.input("a"), space=space))
    (found,) = TRITON.values(compile_values(graph), moved(tensors))
    inputs = {"a": tensors.vector("a", F32)}
    (wanted,) = evaluate(graph, inputs, (20, 40), dtype=F32)
    assert torch.equal(found.nan_to_num(7.0), wanted.nan_to_num(7.0))
    assert found.isnan().any()


def test_order_statistics_are_exact(make_tensors):
    n = 50_000 if GPU else 9_001
    tensors = make_tensors((1, n), (BF16, F32, BF16, BF16))
    tensors.experts["a"][0, ::3] = tensors.base[0, ::3].float()  # many zeros
    tensors.experts["a"][0, 5] = torch.nan
    for sign in (Op.ABS, Op.NEG):
        b = Builder()
        value = b.add(sign, b.input("a"))
        ranks = [1, 2, n // 3, n // 2, n - 1, n]
        graph = b.graph(*(b.add(Op.KTH, value, attrs=(k,), space=ALL) for k in ranks))
        found = TRITON.values(compile_values(graph), moved(tensors))
        x = tensors.vector("a", F32).flatten()
        x = x.abs() if sign is Op.ABS else -x
        for k, one in zip(ranks, found, strict=True):
            wanted = x.kthvalue(k).values
            assert torch.equal(one.nan_to_num(7.0), wanted.nan_to_num(7.0)), (sign, k)


@pytest.mark.parametrize("space", [ROW, COL])
def test_order_statistics_of_rows_and_columns(make_tensors, space):
    tensors = make_tensors((37, 53))
    b = Builder()
    graph = b.graph(b.add(Op.KTH, b.add(Op.ABS, b.input("a")), attrs=(7,), space=space))
    (found,) = TRITON.values(compile_values(graph), moved(tensors))
    (wanted,) = evaluate(graph, {"a": tensors.vector("a", F32)}, (37, 53), dtype=F32)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("space", [ROW, COL])
def test_one_tensor_at_a_time_is_copied_for_its_order(make_tensors, monkeypatch, space):
    """A float32 copy of 36 tensors of a 7B model takes 8 GB, and the plan leaves kernels 1."""
    b = Builder()
    rank = b.add(Op.KTH, b.input("a"), attrs=(3,), space=space)
    graph, sets, seen = b.graph(rank), [moved(make_tensors((16, 24))) for _ in range(3)], []
    copied = reductions.floats
    monkeypatch.setattr(
        reductions, "floats", lambda g, batch: seen.append(len(batch.sets)) or copied(g, batch)
    )
    found = TRITON.sweep_all(graph, sets, [[], [], []])
    assert seen == [1, 1, 1] and len(found) == 3


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(1, 4099), (37, 53)] if GPU else [(9, 53)])
def test_draws_are_the_references(make_tensors, kind, shape):
    b = Builder()
    draw = b.add(Op.RANDOM, attrs=(kind, 2**40 + 7, 3), space=Space.FULL)
    for space in (ROW, COL):
        graph = b.graph(b.add(Op.ADD, draw, b.add(Op.REDUCE_SUM, draw, space=space)))
        tensors = make_tensors(shape)
        found = TRITON.update(compile_graph(graph), moved(tensors))
        torch.testing.assert_close(found, exact(graph, tensors).float(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
def test_digests_are_the_references(dtype):
    """Several tensors in one launch: empty, odd, of whole chunks and more, and at an odd address."""
    shapes = [(0,), (1,), (37, 53), (3, 4096), (40, 4099), (600, 4096) if GPU else (9, 4096)]
    tensors = [torch.randn(shape, device=TRITON.device).to(dtype) for shape in shapes]
    tensors += [tensors[3].reshape(-1)[1:], tensors[2].T]
    data = [t.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for t in tensors]
    assert digests(tensors) == [digest(one) for one in data]
    assert digests([]) == []


@ABSENT
def test_more_than_two_to_the_31_elements():
    """64-bit addresses: a tensor of 2.2 G elements, its last row changed."""
    rows, cols = 2**15 + 1024, 2**16
    base = torch.zeros(rows, cols, dtype=BF16, device="cuda")
    expert = base.clone()
    expert[-1] = 1.0
    b = Builder()
    x = b.input("a")
    total = b.add(Op.REDUCE_SUM, x, space=ALL)
    plan = compile_graph(b.graph(b.add(Op.ADD, x, b.add(Op.DIV, x, total))))
    out = torch.full_like(base, torch.nan)
    assert TRITON.merge(plan, TensorSet("t", base, {"a": expert}), out)
    assert not out[:-1].any()
    assert (out[-1] == 1.0).all()


@ABSENT
def test_tensors_on_the_host_are_merged_too(make_tensors):
    tensors, plan = make_tensors((40, 136)), compile_graph(all_stages())
    out, there = torch.empty_like(tensors.base), torch.empty_like(moved(tensors).base)
    assert TRITON.merge(plan, tensors, out)
    assert TRITON.merge(plan, moved(tensors), there)
    assert torch.equal(out, there.cpu())


@ABSENT
def test_what_was_compiled_ahead_is_not_compiled_again(make_tensors, tmp_path, monkeypatch):
    from selfdev_engine.kernels.triton.compile_ahead import AheadCompiler

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    b = Builder()
    x, y = b.input("a"), b.input("b")
    plan = compile_graph(b.graph(b.add(Op.SUB, b.add(Op.MUL, x, b.add(Op.ABS, y)), b.const(3e-3))))
    compiler = AheadCompiler(arch=10 * torch.cuda.get_device_capability()[0])
    for done in compiler.submit(plan):
        done.result()
    compiler.close()
    kernels = set(tmp_path.rglob("*.cubin"))
    assert kernels
    tensors = moved(make_tensors((64, 64)))
    assert TRITON.merge(plan, tensors, torch.empty_like(tensors.base))
    assert set(tmp_path.rglob("*.cubin")) == kernels
