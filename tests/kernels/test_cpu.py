"""The C++ backend alone: bits that must not depend on fusion, threads or build; accuracy; selection."""

from __future__ import annotations

import hashlib
import math
import re
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import selfdev_engine.kernels.ir as ir
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfdev_engine.kernels.compiler.clock import OutOfTime, limited
from selfdev_engine.kernels.compiler.passes import compile_graph, compile_values
from selfdev_engine.kernels.cpu.backend import CpuBackend
from selfdev_engine.kernels.cpu.encode import below
from selfdev_engine.kernels.cpu.fusion import FIRSTS, SECONDS
from selfdev_engine.kernels.cpu.vm import load_extension
from selfdev_engine.kernels.ir import Builder, KernelGraph, Op, Space
from selfdev_engine.kernels.reference import ELEMENTWISE_FORMS, evaluate
from selfdev_engine.kernels.tensors import Job, TensorSet

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
ALL, ROW, COL = Space.SCALAR, Space.ROW, Space.COL
ISAS = load_extension().isas()
SOURCES = Path(ir.__file__).parent / "cpu"
EDGES = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-40, 3e38, -3e38]


def digest(tensor: torch.Tensor) -> str:
    """Return a digest of the bits, where every NaN is the same NaN."""
    return hashlib.sha256(
        torch.nan_to_num(tensor.float(), nan=1.234e30).numpy().tobytes()
    ).hexdigest()


# ---- fused instructions are their parts -----------------------------------------------------------

CHEAP = [Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.LT, Op.LE, Op.EQ]


@st.composite
def cheap_graphs(draw) -> KernelGraph:
    """Long chains of what is fused: cheap ops on experts and numbers, thresholds, choices."""
    b = Builder()
    values = [b.input(name) for name in "abc"]
    number = st.sampled_from([-0.0, 0.0, 4e-4, 1e-3, -1.5, 0.5, 3.0])
    for _ in range(draw(st.integers(2, 16))):
        x = draw(st.sampled_from(values[-4:]))
        y = draw(st.sampled_from([*values, b.const(draw(number)), b.const(draw(number))]))
        kind = draw(st.integers(0, 9))
        if kind <= 5:
            pair = (x, y) if draw(st.booleans()) else (y, x)
            values.append(b.add(draw(st.sampled_from(CHEAP)), *pair))
        elif kind == 6:
            values.append(b.add(Op.ABS, x))
        elif kind == 7:
            test = b.add(draw(st.sampled_from([Op.LT, Op.LE, Op.EQ])), x, y)
            values.append(b.add(Op.WHERE, test, draw(st.sampled_from(values)), b.const(0.0)))
        else:
            test = b.add(
                draw(st.sampled_from([Op.LT, Op.LE])), b.const(draw(number)), b.add(Op.ABS, x)
            )
            kept = b.add(Op.MUL, test, x) if kind == 8 else b.add(Op.WHERE, test, x, b.const(0.0))
            values.append(b.add(Op.ADD, values[-1], b.add(Op.MUL, kept, b.const(draw(number)))))
    return b.graph(values[-1])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=cheap_graphs(), base=st.sampled_from([BF16, F16, F32]), seed=st.integers(0, 9))
def test_fused_and_plain_programs_give_the_same_bits(make_tensors, graph, base, seed):
    tensors = make_tensors((3, 211), (base, BF16, F32, BF16), seed)
    for name, tensor in tensors.experts.items():
        tensor.view(-1)[: len(EDGES)] = torch.tensor(EDGES).roll(ord(name)).to(tensor.dtype)
    plan = compile_graph(graph)
    found = {
        digest(backend.update(plan, tensors))
        for isa in ISAS
        for backend in (CpuBackend(1, isa), CpuBackend(1, isa, fused=False))
    }
    assert len(found) == 1
    outs = [torch.full_like(tensors.base, 7.0) for _ in range(2)]
    finite = [
        CpuBackend(1, fused=f).merge(plan, tensors, o)
        for f, o in zip((True, False), outs, strict=True)
    ]
    assert finite[0] == finite[1]
    assert not finite[0] or torch.equal(*outs)


def test_the_benchmarks_program_is_six_instructions(make_tensors):
    from selfdev_engine.bench.rows.apply import program

    graph = program().stages[-1].graph
    fused, plain = (
        CpuBackend(fused=f).vm.code(graph, "merge", make_tensors((8, 8))) for f in (True, False)
    )
    assert len(fused.program) == 6
    assert len(plain.program) == 1 + 3 * 5 + 2 + 2 + 2
    assert fused.num_registers <= 3


@pytest.mark.parametrize("shape", [(1,), (63,), (513,), (3, 211), (2, 70_001)])
@pytest.mark.parametrize("sums", [False, True])
def test_products_in_passing_are_their_parts(make_tensors, shape, sums):
    """Sums of the products of three bf16 task vectors: read by one instruction, or one after the other."""
    from selfdev_engine.bench.rows.sweep import statistics_graph

    tensors, graph = make_tensors(shape), statistics_graph()
    if not sums:
        graph = KernelGraph(graph.nodes, graph.outputs[:6])
    plan, name = compile_values(graph), "DELTA_GRAM3_MOMENTS" if sums else "DELTA_GRAM3"
    code = CpuBackend().vm.code(plan.stages[0].graph, "reductions", tensors)
    assert [insn.op for insn in code.program] == ["LOAD", name]
    found = {
        tuple(float(v).hex() for v in CpuBackend(2, isa, fused=fused).values(plan, tensors))
        for isa in ISAS
        for fused in (True, False)
    }
    assert len(found) == 1


def test_every_pair_that_is_looked_for_exists_and_the_other_way_round():
    names = set(load_extension().opcodes())
    seconds = {second for forms in SECONDS.values() for _, second, _ in forms}
    assert {f"{f}__{g}" for f in FIRSTS for g in seconds} <= names
    text = (SOURCES / "pairs.h").read_text()
    listed = re.findall(r"X\((\w+)\)", text.split("#define SECONDS")[0])
    assert set(listed) == FIRSTS
    assert set(re.findall(r"X\(f, (\w+)\)", text)) == seconds


@pytest.mark.parametrize("op", sorted(ir.ELEMENTWISE))
def test_every_op_has_an_instruction_for_registers_and_numbers(op, make_tensors):
    tensors = make_tensors((2, 70))
    arity = 1 if op in ir.UNARY else 2 if op in ir.BINARY else 3
    for numbers in product((False, True), repeat=arity):
        if all(numbers):
            continue  # folded before it comes here
        b = Builder()
        args = [b.const(0.5) if n else b.input(x) for n, x in zip(numbers, "abc", strict=False)]
        graph = b.graph(b.add(Op(op), *args))
        inputs = {name: tensors.vector(name, torch.float64) for name in "abc"}
        (wanted,) = evaluate(graph, inputs, (2, 70))
        found = CpuBackend().update(compile_graph(graph), tensors)
        torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-7, equal_nan=True)


def test_a_structure_is_encoded_once_whatever_its_numbers(make_tensors):
    from selfdev_engine.kernels.cpu.purposes import encode

    b = Builder()
    plan = compile_graph(b.graph(b.add(Op.MUL, b.input("a"), b.const(0.5))))
    other = replace(plan, params=(0.25,))
    tensors, backend = make_tensors((4, 9)), CpuBackend()
    encode.cache_clear()
    halves, quarters = (backend.update(p, tensors) for p in (plan, other))
    assert encode.misses == 1
    assert torch.equal(halves, 2 * quarters)
    assert halves.any()


def test_below_is_the_next_smaller_float():
    for value in (1.0, -1.0, 0.0, -0.0, 4e-4, 1e-45, math.inf):
        wanted = torch.nextafter(torch.tensor(value), torch.tensor(-math.inf)).item()
        assert below(torch.tensor(value).item()) == wanted
    assert below(-math.inf) == -math.inf
    assert math.isnan(below(math.nan))


# ---- functions: 1 unit in the last place of float32, over the whole range -------------------------

FUNCTIONS = [
    *(Op.EXP, Op.EXPM1, Op.LOG, Op.LOG1P, Op.SIN, Op.COS, Op.ASIN, Op.ACOS),
    *(Op.ATAN, Op.TANH, Op.ERF, Op.SQRT),
]


def run_on(op: Op, isa: str, *values: torch.Tensor) -> torch.Tensor:
    """One op on float32 values; the base is zero, so that task vectors are the values."""
    b = Builder()
    plan = compile_graph(
        b.graph(b.add(op, *(b.input(n) for n, _ in zip("ab", values, strict=False))))
    )
    experts = dict(zip("ab", values, strict=False))
    return CpuBackend(1, isa).update(plan, TensorSet("t", torch.zeros_like(values[0]), experts))


def wide_range(seed: int, n: int = 400_000) -> torch.Tensor:
    """Random bit patterns, the neighbourhood of 1, small numbers, edges."""
    draw = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**31), 2**31, (n,), generator=draw).to(torch.int32).view(F32)
    near = torch.randn(n, generator=draw)
    tiny = near * 2.0 ** torch.randint(-30, 0, (n,), generator=draw)
    return torch.cat([torch.tensor(EDGES), bits, near, 5 * near, 30 * near, 1 + tiny, tiny])


def worst_ulps(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest error in units of the last place of the exact float64 value; NaN and Inf must agree."""
    rounded = wanted.float()
    assert torch.equal(found.isnan(), rounded.isnan())
    usual = rounded.isfinite() & found.isfinite()
    assert torch.equal(found[~usual & ~found.isnan()], rounded[~usual & ~found.isnan()])
    exponent = torch.frexp(wanted[usual].abs().clamp(min=2.0**-126)).exponent
    unit = 2.0 ** (exponent - 24).double()
    return ((found[usual].double() - wanted[usual]).abs() / unit).max().item()


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_are_within_one_unit_in_the_last_place(op):
    x = wide_range(1)
    results = {isa: run_on(op, isa, x) for isa in ISAS}
    assert len({digest(r) for r in results.values()}) == 1
    assert worst_ulps(results[ISAS[0]], ELEMENTWISE_FORMS[op](x.double())) <= 1
    zeros = torch.tensor([0.0, -0.0])
    wanted = ELEMENTWISE_FORMS[op](zeros)
    assert torch.equal(run_on(op, "", zeros).signbit(), wanted.signbit())


@pytest.mark.parametrize("op", [Op.POW, Op.ATAN2])
def test_functions_of_two_are_within_one_unit_in_the_last_place(op):
    edges = torch.tensor([*EDGES, 0.5, 2.0, -2.0, 3.0, -3.0, 16777216.0])
    grid = torch.cartesian_prod(edges, edges)
    x = torch.cat([grid[:, 0], wide_range(2, 100_000).abs(), wide_range(3, 100_000)])
    y = torch.cat([grid[:, 1], wide_range(4, 100_000), 4 * wide_range(5, 100_000).sign()])
    results = {isa: run_on(op, isa, x, y) for isa in ISAS}
    assert len({digest(r) for r in results.values()}) == 1
    assert worst_ulps(results[ISAS[0]], ELEMENTWISE_FORMS[op](x.double(), y.double())) <= 1


# ---- the same bits for any number of threads and any build ----------------------------------------


def everything() -> KernelGraph:
    """Draws, masks, transcendental functions, statistics of all spaces, order statistics."""
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    norm = b.add(Op.SQRT, b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=ALL))
    dot = b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, y), space=ALL)
    row = b.add(Op.REDUCE_SUM, b.add(Op.TANH, y), space=ROW)
    column = b.add(Op.REDUCE_SUM, b.add(Op.EXP, z), space=COL)
    cut = b.add(Op.KTH, b.add(Op.ABS, z), attrs=(9000,), space=ALL)
    keep = b.add(Op.WHERE, b.add(Op.LE, cut, b.add(Op.ABS, z)), z, b.const(0.0))
    drawn = b.add(Op.RANDOM, attrs=("normal", 11, 0), space=Space.FULL)
    total = b.add(Op.ADD, b.add(Op.MUL, keep, b.add(Op.DIV, dot, norm)), b.add(Op.MUL, x, row))
    return b.graph(b.add(Op.ADD, b.add(Op.MUL, total, column), b.add(Op.MUL, drawn, y)))


def test_results_do_not_depend_on_threads_or_build(make_tensors):
    tensors, plan = make_tensors((97, 1531)), compile_graph(everything())
    found = {
        digest(CpuBackend(threads, isa).update(plan, tensors))
        for isa in ISAS
        for threads in (1, 2, 3, 5)
    }
    assert len(found) == 1


def test_a_statistic_has_the_same_bits_alone_and_in_a_group(make_tensors):
    from selfdev_engine.bench.rows.sweep import statistics_graph

    tensors, graph = make_tensors((5, 40_001)), statistics_graph()
    together = CpuBackend().values(compile_values(graph), tensors)
    for output, value in zip(graph.outputs, together, strict=True):
        (alone,) = CpuBackend().values(compile_values(KernelGraph(graph.nodes, (output,))), tensors)
        assert torch.equal(alone, value)


# ---- order statistics -----------------------------------------------------------------------------


def kth_values(
    x: torch.Tensor, ranks: list[int], space: Space = ALL, **settings
) -> list[torch.Tensor]:
    b = Builder()
    value = b.input("a")
    graph = b.graph(*(b.add(Op.KTH, value, attrs=(k,), space=space) for k in ranks))
    tensors = TensorSet("t", torch.zeros_like(x), {"a": x})
    return CpuBackend(**settings).values(compile_values(graph), tensors)


def hard_samples() -> dict[str, torch.Tensor]:
    n, draw = 300_001, torch.Generator().manual_seed(3)
    normal = torch.randn(n, generator=draw)
    periodic = torch.where(torch.arange(n) % 4096 < 64, 100.0, normal)  # what the sample sees
    return {
        "normal": normal,
        "all equal": torch.full((n,), -2.5),
        "mostly zero": torch.where(normal > 1.5, normal, 0.0),
        "two values": (normal > 0.3).float(),
        "few values": (4 * normal).round(),
        "sorted": normal.sort().values,
        "misleads the sample": periodic,
        "wide": normal.exp().pow(20),
        "specials": torch.cat([normal[:-4], torch.tensor([math.nan, math.inf, -math.inf, -0.0])]),
    }


@pytest.mark.parametrize("name", hard_samples())
def test_order_statistics_of_hard_samples_are_exact(name):
    x = hard_samples()[name]
    n = x.numel()
    ranks = [1, 2, n // 100, n // 2, n // 2 + 1, round(0.8 * n), n - 1, n]
    ordered = x.sort().values
    for threads, isa in ((1, "portable"), (2, ISAS[0])):
        for k, value in zip(ranks, kth_values(x, ranks, num_threads=threads, isa=isa), strict=True):
            assert torch.equal(value.nan_to_num(nan=1e30), ordered[k - 1].nan_to_num(nan=1e30))


@pytest.mark.parametrize("shape", [(1, 5000), (300, 70), (70, 9001), (9001, 65)])
@pytest.mark.parametrize(("space", "dim"), [(ROW, 1), (COL, 0)])
def test_order_statistics_by_row_and_column_are_exact(shape, space, dim):
    x = (8 * torch.randn(shape, generator=torch.Generator().manual_seed(4))).round() / 8
    size = shape[dim]
    ranks = sorted({1, size // 2 + 1, size})
    for k, value in zip(ranks, kth_values(x, ranks, space), strict=True):
        assert torch.equal(value, x.kthvalue(k, dim, keepdim=True).values)


def test_ranks_of_one_expression_over_rows_columns_and_everything():
    """Each is a pass of its own: once they shared the first one's, and the others read behind it."""
    builder = Builder()
    a = builder.input("a")
    spaces = ((2, ROW), (7, ALL), (1, COL), (3, ROW))
    found = [builder.add(Op.KTH, a, attrs=(k,), space=space) for k, space in spaces]
    total = a
    for one in found:
        total = builder.add(Op.ADD, total, one)
    plan = compile_graph(builder.graph(total))
    x = torch.randn(5, 7)
    tensors = TensorSet("t", torch.zeros(5, 7), {"a": x})
    over = {ROW: 1, COL: 0}
    wanted = x.clone()
    for k, space in spaces:
        flat = x.flatten().kthvalue(k).values
        wanted = wanted + (flat if space is ALL else x.kthvalue(k, over[space], True).values)
    torch.testing.assert_close(CpuBackend().update(plan, tensors), wanted)


# ---- leaves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds", [(0, 0, 1), (3, 700, 1), (5, 1500, 7), (600, 601, 3), (0, 1530, 512)]
)
def test_ranges_of_flat_indices(make_tensors, bounds):
    b = Builder()
    plan = compile_graph(b.graph(b.add(Op.IN_RANGE, attrs=bounds, space=Space.FULL)))
    found = CpuBackend().update(plan, make_tensors((3, 510))).flatten()
    assert found.nonzero().flatten().tolist() == list(range(*bounds))


def test_tensors_merged_by_one_call_have_their_own_bits_and_faults(make_tensors):
    """They may differ in shape, dtype and whether a result is finite."""
    b = Builder()
    plan = compile_graph(b.graph(b.add(Op.MUL, b.input("a"), b.const(3.0))))
    shapes, dtypes = [(3, 5), (700, 130), (1, 1), (64, 2048)], [F32, BF16, F32, F16]
    kinds = zip(shapes, dtypes, strict=True)
    sets = [make_tensors(shape, (dtype,) * 4, seed=i) for i, (shape, dtype) in enumerate(kinds)]
    sets[2].experts["a"].fill_(math.nan)
    backend = CpuBackend(num_threads=2)
    outs = [torch.empty_like(tensors.base) for tensors in sets]
    jobs = [Job(plan, tensors, out) for tensors, out in zip(sets, outs, strict=True)]
    assert backend.merge_all(jobs) == [True, True, False, True]
    for job in jobs:
        alone = torch.empty_like(job.out)
        CpuBackend(num_threads=1).merge(plan, job.tensors, alone)
        assert digest(alone) == digest(job.out)


# ---- a clock ends a long call ----------------------------------------------------------------------


def errors(length: int) -> tuple[Builder, int]:
    """So many error functions, one after the other."""
    b = Builder()
    x = b.input("a")
    for _ in range(length):
        x = b.add(Op.ERF, x)
    return b, x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("space", [None, ALL, ROW, COL])
@pytest.mark.parametrize("op", [Op.REDUCE_SUM, Op.KTH])
def test_a_clock_ends_a_pass_within_a_tensor(op, space, threads):
    """Each pass would take 3 s of CPU; the backend works as before when it was ended."""
    b, x = errors(4000)
    rank = (7,) if op is Op.KTH else ()
    graph = b.graph(x if space is None else b.add(op, x, attrs=rank, space=space))
    tensors = TensorSet("t", torch.zeros(512, 1024), {"a": torch.ones(512, 1024)})
    backend = CpuBackend(threads)
    work = backend.expression if space is None else backend.sweep
    began = time.process_time()
    with limited("the time is over", wall_s=0.1), pytest.raises(OutOfTime, match="is over"):
        work(graph, tensors, [])
    assert time.process_time() - began < 1.5
    short, y = errors(1)
    (found,) = backend.sweep(short.graph(short.add(Op.REDUCE_SUM, y, space=ALL)), tensors, [])
    assert float(found) == pytest.approx(512 * 1024 * math.erf(1.0), rel=1e-6)
