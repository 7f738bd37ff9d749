"""`apply`: base + 3 experts in bf16, 15 element-wise ops, one pass, in memory.

Interleaved medians in one process: our pass, a plain copy of as many bytes by the same number of
threads, eager torch, torch.compile (warm). Bytes come from the plan (4 reads + 1 write of 2 bytes an
element). Beside them: how long a structure that was never seen takes to be ready.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ...kernels.backend import TensorSet, get_backend, plan_bytes
from ...kernels.cpu_backend import CpuBackend
from ...kernels.encode import encode
from ...kernels.ir import Builder, Graph, Op
from ...kernels.passes import canonical, compile_graph
from ...kernels.stages import Plan
from ...kernels.staging import stage_merge
from ..registry import Row
from ..timing import copier, timed

ROWS, COLS = 2048, 2140  # 4.4 M elements: an MLP tensor of a 0.5 B model
ITEMSIZES: dict[str, int] = dict.fromkeys(("base", "a", "b", "c"), 2)
SETS = 4  # of tensors, in turn, so that no level of cache holds them
TARGET, X_EAGER, MOST_READY_MS = 0.60, 15.0, 1.0
WEIGHTS, CUTS, LIMIT, SCALE = (0.3, 0.25, 0.2), (4e-4, 5e-4, 3e-4), 2e-3, 1.1


def program() -> Plan:
    return compile_graph(source_graph())


def source_graph() -> Graph:
    """Trim each task vector, weigh, add, clamp, scale: 15 ops."""
    b = Builder()
    total = None
    for name, weight, cut in zip("abc", WEIGHTS, CUTS, strict=True):
        t = b.input(name)
        keep = b.add(Op.LT, b.const(cut), b.add(Op.ABS, t))
        part = b.add(Op.MUL, b.add(Op.WHERE, keep, t, b.const(0.0)), b.const(weight))
        total = part if total is None else b.add(Op.ADD, total, part)
    assert total is not None
    low = b.add(Op.MAX, total, b.const(-LIMIT))
    return b.graph(b.add(Op.MUL, b.add(Op.MIN, low, b.const(LIMIT)), b.const(SCALE)))


def eager(tensors: TensorSet) -> torch.Tensor:
    base = tensors.base.float()
    total = torch.zeros_like(base)
    for expert, weight, cut in zip(tensors.experts.values(), WEIGHTS, CUTS, strict=True):
        t = expert.float() - base
        total = total + torch.where(t.abs() > cut, t, 0.0) * weight
    return (base + total.clamp(-LIMIT, LIMIT) * SCALE).to(tensors.base.dtype)


def make_tensors(index: int) -> TensorSet:
    draw = torch.Generator().manual_seed(index)
    base = 0.02 * torch.randn(ROWS, COLS, generator=draw)
    experts = {n: base + 5e-4 * torch.randn(ROWS, COLS, generator=draw) for n in "abc"}
    return TensorSet(f"t{index}", base.bfloat16(), {n: e.bfloat16() for n, e in experts.items()})


def new_structure_ms() -> float:
    """From a canonical graph whose structure is new to what the pool can run; the best of 20."""
    graph, tensors, backend = canonical(source_graph()), make_small(), CpuBackend()
    best = math.inf
    for _ in range(20):
        encode.cache_clear()
        began = time.perf_counter()
        backend.prepare(stage_merge(graph), tensors)
        best = min(best, 1e3 * (time.perf_counter() - began))
    return best


def make_small() -> TensorSet:
    tensor = torch.zeros(8, 64, dtype=torch.bfloat16)
    return TensorSet("t", tensor, dict.fromkeys("abc", tensor))


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """GB/s of the cpu backend over GB/s of a copy, same threads, same run."""
    plan, backend = program(), get_backend("auto")
    sets = [make_tensors(i) for i in range(SETS)]
    outs = [torch.full_like(s.base, torch.nan) for s in sets]
    compiled = torch.compile(eager, dynamic=False)
    for s, out in zip(sets, outs, strict=True):
        assert backend.merge(plan, s, out), "a result is not finite"
        for rival in (eager, compiled):
            wrong = (out.view(torch.int16).int() - rival(s).view(torch.int16).int()).abs().max()
            assert wrong <= 1, f"{wrong} units in the last place from torch"
    update(1, 2)
    moved = SETS * sum(plan_bytes(plan, (ROWS, COLS), ITEMSIZES))
    times = timed(
        {
            "ours": lambda: [backend.merge(plan, s, o) for s, o in zip(sets, outs, strict=True)],
            "copy": copier(moved),
            "compiled": lambda: [compiled(s) for s in sets],
            "eager": lambda: [eager(s) for s in sets],
        }
    )
    update(2, 2)
    ours = times["ours"].median_s
    x_eager, x_compiled = (times[rival].median_s / ours for rival in ("eager", "compiled"))
    ready_ms = new_structure_ms()
    return Row.of_bandwidth(
        "apply",
        moved,
        times,
        floor="copy",
        target=TARGET,
        asked=x_eager >= X_EAGER and x_compiled > 1 and ready_ms < MOST_READY_MS,
        more={
            "x_eager_torch": x_eager,
            "x_torch_compile_warm": x_compiled,
            "new_structure_ms": ready_ms,
        },
    )
