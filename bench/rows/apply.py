"""`apply`: base + 3 experts in bf16, 15 element-wise ops, one pass, in memory.

Interleaved medians in one process: our pass, a plain copy of as many bytes by the same number of
threads, eager torch, torch.compile (warm). Bytes come from the plan (4 reads + 1 write of 2 bytes an
element). Beside them: how long a structure that was never seen takes to be ready. On a GPU: the MLP
of a 7 B model (or as much of it as fits), all tensors in one launch.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ...kernels.backends import get_backend
from ...kernels.compiler.passes import canonical, compile_graph
from ...kernels.compiler.staging import stage_merge
from ...kernels.cpu.backend import CpuBackend
from ...kernels.cpu.purposes import encode
from ...kernels.ir import Builder, KernelGraph, Op
from ...kernels.stages import KernelPlan, plan_bytes
from ...kernels.tensors import Job, TensorSet
from ..registry import Row
from ..timing import copier, timed

ROWS, COLS = 2048, 2140  # 4.4 M elements: an MLP tensor of a 0.5 B model
ITEMSIZES: dict[str, int] = dict.fromkeys(("base", "a", "b", "c"), 2)
SETS = 4  # of tensors, in turn, so that no level of cache holds them
GPU_ROWS, GPU_COLS, GPU_SETS = 14336, 4096, 96  # 5.6 B elements
GPU_SHARE = 0.75  # of free memory for base, experts and results
TARGET, X_EAGER, MOST_READY_MS = 0.60, 15.0, 1.0
GPU_TARGET, GPU_MOST_READY_MS = 0.90, 1000.0
Rival = Callable[[TensorSet], torch.Tensor]
WEIGHTS, CUTS, LIMIT, SCALE = (0.3, 0.25, 0.2), (4e-4, 5e-4, 3e-4), 2e-3, 1.1


def program() -> KernelPlan:
    return compile_graph(source_graph())


def source_graph() -> KernelGraph:
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


def make_tensors(index: int, device: str = "cpu") -> TensorSet:
    shape = (ROWS, COLS) if device == "cpu" else (GPU_ROWS, GPU_COLS)
    return normal_tensors(index, device, *shape)


def normal_tensors(index: int, device: str, rows: int, cols: int) -> TensorSet:
    draw = torch.Generator(device).manual_seed(index)

    def normal(size: float) -> torch.Tensor:
        return size * torch.randn(rows, cols, generator=draw, device=device)

    base = normal(0.02)
    experts = {name: (base + normal(5e-4)).bfloat16() for name in "abc"}
    return TensorSet(f"t{index}", base.bfloat16(), experts)


def num_sets(device: str) -> int:
    if device == "cpu":
        return SETS
    one = 5 * 2 * GPU_ROWS * GPU_COLS
    return min(GPU_SETS, int(GPU_SHARE * torch.cuda.mem_get_info()[0] / one))


def new_structure_ms(device: str) -> dict[str, float]:
    """From a canonical graph whose structure is new to what can run."""
    if device != "cpu":
        return compile_ms()
    graph, tensors, backend = canonical(source_graph()), make_small(), CpuBackend()
    best = math.inf
    for _ in range(20):
        encode.cache_clear()
        began = time.perf_counter()
        backend.prepare(stage_merge(graph), tensors)
        best = min(best, 1e3 * (time.perf_counter() - began))
    return {"new_structure_ms": best}


def compile_ms() -> dict[str, float]:
    """A kernel's first launch with an empty cache, and in a process that finds it in the cache."""
    import triton

    from ...kernels.triton.cache import load_source

    graph, small = canonical(source_graph()), make_small("cuda")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        triton.knobs.cache.dir = folder  # pyright: ignore[reportAttributeAccessIssue]
        for name in ("new_structure_ms", "cached_structure_ms"):
            load_source.cache_clear()
            began = time.perf_counter()
            get_backend("triton").merge(stage_merge(graph), small, small.base.clone())
            torch.cuda.synchronize()
            found[name] = 1e3 * (time.perf_counter() - began)
        triton.knobs.cache.dir = None  # pyright: ignore[reportAttributeAccessIssue]
    load_source.cache_clear()
    return found


def make_small(device: str = "cpu") -> TensorSet:
    tensor = torch.zeros(8, 64, dtype=torch.bfloat16, device=device)
    return TensorSet("t", tensor, dict.fromkeys("abc", tensor))


def check(merge: Callable[[], list[bool]], sets: list[TensorSet], jobs: list[Job]) -> Rival:
    """Each of ours within one unit in the last place of torch's; torch.compile, warm."""
    compiled = torch.compile(eager, dynamic=False)
    assert all(merge()), "a result is not finite"
    for s, job in zip(sets, jobs, strict=True):
        for rival in (eager, compiled):
            off = job.out.view(torch.int16).int() - rival(s).view(torch.int16).int()
            assert off.abs().max() <= 1, f"{off.abs().max()} units in the last place from torch"
    return compiled


def measure(zoo: Path, update: Callable[[int, int], None], device: str = "cpu") -> Row:
    """GB/s of the device's backend over GB/s of a copy there, same threads, same run."""
    plan, backend = program(), get_backend("cpu" if device == "cpu" else "triton")
    sets = [make_tensors(i, device) for i in range(num_sets(device))]
    jobs = [Job(plan, s, torch.full_like(s.base, torch.nan)) for s in sets]
    compiled = check(lambda: backend.merge_all(jobs), sets, jobs)
    update(1, 2)
    moved = len(sets) * sum(plan_bytes(plan, sets[0].shape2d, ITEMSIZES))
    times = timed(
        {
            "ours": lambda: backend.merge_all(jobs),
            "copy": copier(moved, device),
            "compiled": lambda: [compiled(s) for s in sets],
            "eager": lambda: [eager(s) for s in sets],
        },
        device=device,
    )
    update(2, 2)
    ours, ready = times["ours"].median_s, new_structure_ms(device)
    x_eager, x_compiled = (times[rival].median_s / ours for rival in ("eager", "compiled"))
    most_ms = MOST_READY_MS if device == "cpu" else GPU_MOST_READY_MS
    fast = device != "cpu" or (x_compiled > 1 and x_eager >= X_EAGER)
    return Row.of_bandwidth(
        "apply",
        moved,
        times,
        floor="copy",
        target=TARGET if device == "cpu" else GPU_TARGET,
        asked=fast and ready["new_structure_ms"] < most_ms,
        more={
            "x_eager_torch": x_eager,
            "x_torch_compile_warm": x_compiled,
            "elements": sum(s.base.numel() for s in sets),
            **ready,
        },
        device=device,
    )
