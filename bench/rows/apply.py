"""`apply`: base + 3 experts in bf16, 15 element-wise ops, one pass, in memory.

Interleaved medians in one process: our pass, a plain copy of as many bytes by the same number of
threads, eager torch. Bytes come from the plan (4 reads + 1 write of 2 bytes an element). A row of
two threads whose CPU time is below 1.8 x its wall time was disturbed, and says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...kernels.backend import TensorSet, get_backend, plan_bytes
from ...kernels.ir import Builder, Op
from ...kernels.passes import compile_graph
from ...kernels.stages import Plan
from ..registry import Row

ROWS, COLS = 2048, 2140  # 4.4 M elements: an MLP tensor of a 0.5 B model
SETS = 4  # of tensors, in turn, so that no level of cache holds them
REPEATS = 9
TARGET = 0.60
WEIGHTS, CUTS, LIMIT, SCALE = (0.3, 0.25, 0.2), (4e-4, 5e-4, 3e-4), 2e-3, 1.1


def program() -> Plan:
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
    return compile_graph(b.graph(b.add(Op.MUL, b.add(Op.MIN, low, b.const(LIMIT)), b.const(SCALE))))


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


def timed(functions: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
    """Median seconds, and CPU seconds per wall second, of each; interleaved."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            seconds = time.perf_counter() - wall
            seen[name].append((seconds, (time.process_time() - cpu) / seconds))
    return {
        name: (statistics.median(s for s, _ in runs), statistics.median(c for _, c in runs))
        for name, runs in seen.items()
    }


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """GB/s of the cpu backend over GB/s of a copy, same threads, same run."""
    plan, backend = program(), get_backend("auto")
    sets = [make_tensors(i) for i in range(SETS)]
    outs = [torch.full_like(s.base, torch.nan) for s in sets]
    for s, out in zip(sets, outs, strict=True):
        assert backend.merge(plan, s, out), "a result is not finite"
        wrong = (out.view(torch.int16).int() - eager(s).view(torch.int16).int()).abs().max()
        assert wrong <= 1, f"{wrong} units in the last place from eager torch"
    update(1, 2)
    moved = sum(
        sum(plan_bytes(plan, (ROWS, COLS), dict.fromkeys(("base", *"abc"), 2))) for _ in sets
    )
    source = torch.empty(moved // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    times = timed(
        {
            "ours": lambda: [backend.merge(plan, s, o) for s, o in zip(sets, outs, strict=True)],
            "copy": lambda: target.copy_(source),
            "eager": lambda: [eager(s) for s in sets],
        }
    )
    update(2, 2)
    ours, copy, slow = (times[name][0] for name in ("ours", "copy", "eager"))
    ratio, threads = copy / ours, torch.get_num_threads()
    quiet = threads < 2 or times["ours"][1] > 0.9 * threads
    return Row(
        "apply",
        moved / ours / 1e9,
        "GB/s",
        "copy GB/s",
        moved / copy / 1e9,
        ratio,
        "plan's reads and writes at copy bandwidth",
        ratio >= TARGET if quiet else None,
        {"x_eager_torch": slow / ours, "cpu_per_wall": times["ours"][1], "threads": threads},
    )
