"""`apply`: a merge of base + 3 experts in bf16 by 15 element-wise ops, in memory.

Our pass, eager torch, torch.compile (warm) and a plain copy of the same bytes by as many threads
take turns in one process; medians count. The bytes are those of the plan: 4 reads and 1 write of 2
bytes for each element. The row also measures how long a plan with a new structure takes to be
ready. On a GPU the tensors are those of a 7 B model's MLPs, or as many as fit, in one launch.
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
from ..caches import sets_for
from ..registry import Row
from ..timing import copier, timed

# 4.4 M elements, as in an MLP tensor of a 0.5 B model.
ROWS, COLS = 2048, 2140
ITEMSIZES: dict[str, int] = dict.fromkeys(("base", "a", "b", "c"), 2)
# Sets of tensors that take turns; there are more where a cache would hold them.
SETS = 4
# 5.6 B elements.
GPU_ROWS, GPU_COLS, GPU_SETS = 14336, 4096, 96
# Share of the GPU's free memory for base, experts and results.
GPU_SHARE = 0.75
TARGET, X_EAGER, MOST_READY_MS = 0.60, 15.0, 1.0
GPU_TARGET, GPU_MOST_READY_MS = 0.90, 1000.0
Rival = Callable[[TensorSet], torch.Tensor]
WEIGHTS, CUTS, LIMIT, SCALE = (0.3, 0.25, 0.2), (4e-4, 5e-4, 3e-4), 2e-3, 1.1


def program() -> KernelPlan:
    return compile_graph(source_graph())


def source_graph() -> KernelGraph:
    """15 ops: trim each task vector, weight it, add them up, clamp and scale the sum."""
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


def make_sets(count: int, device: str) -> list[TensorSet]:
    """Sets of tensors. On the CPU all after the first SETS are copies, in memory of their own."""
    drawn = [make_tensors(i, device) for i in range(min(count, SETS) if device == "cpu" else count)]
    return drawn + [copied(drawn[i % len(drawn)]) for i in range(len(drawn), count)]


def copied(tensors: TensorSet) -> TensorSet:
    experts = {name: tensor.clone() for name, tensor in tensors.experts.items()}
    return TensorSet(tensors.name, tensors.base.clone(), experts)


def normal_tensors(index: int, device: str, rows: int, cols: int) -> TensorSet:
    draw = torch.Generator(device).manual_seed(index)

    def normal(size: float) -> torch.Tensor:
        return size * torch.randn(rows, cols, generator=draw, device=device)

    base = normal(0.02)
    experts = {name: (base + normal(5e-4)).bfloat16() for name in "abc"}
    return TensorSet(f"t{index}", base.bfloat16(), experts)


def num_sets(device: str) -> int:
    if device == "cpu":
        return sets_for(5 * 2 * ROWS * COLS, least=SETS)
    one = 5 * 2 * GPU_ROWS * GPU_COLS
    return min(GPU_SETS, int(GPU_SHARE * torch.cuda.mem_get_info()[0] / one))


def new_structure_ms(device: str) -> dict[str, float]:
    """Milliseconds from a graph with a new structure to a plan that can run."""
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
    """Milliseconds of a kernel's first launch, with an empty cache and with the kernel in it."""
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
    """Check that our results are within one unit in the last place of torch's.

    Returns the function that torch.compile made, warm.
    """
    compiled = torch.compile(eager, dynamic=False)
    assert all(merge()), "a result is not finite"
    for s, job in zip(sets, jobs, strict=True):
        for rival in (eager, compiled):
            off = job.out.view(torch.int16).int() - rival(s).view(torch.int16).int()
            assert off.abs().max() <= 1, f"{off.abs().max()} units in the last place from torch"
    return compiled


def measure(zoo: Path, update: Callable[[int, int], None], device: str = "cpu") -> Row:
    """GB/s of our backend over GB/s of a copy, with the same threads, in the same run."""
    plan, backend = program(), get_backend("cpu" if device == "cpu" else "triton")
    sets = make_sets(num_sets(device), device)
    jobs = [Job(plan, s, torch.full_like(s.base, torch.nan)) for s in sets]
    few = sets if device != "cpu" else sets[:SETS]
    compiled = check(lambda: backend.merge_all(jobs), few, jobs[: len(few)])
    update(1, 2)
    moved = len(sets) * sum(plan_bytes(plan, sets[0].shape2d, ITEMSIZES))
    times = timed(
        {
            "ours": lambda: backend.merge_all(jobs),
            "copy": copier(moved, device),
            "compiled": lambda: [compiled(s) for s in sets],
            "eager": lambda: [eager(s) for s in few],
        },
        device=device,
    )
    update(2, 2)
    ours, ready = times["ours"].median_s, new_structure_ms(device)
    x_eager = times["eager"].median_s * len(sets) / len(few) / ours
    x_compiled = times["compiled"].median_s / ours
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
