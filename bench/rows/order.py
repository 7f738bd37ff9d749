"""`order`: exact 80th percentile of |task vector|, 50 M elements, beside torch.sort and kthvalue.

Ours reads base and expert as bf16 in one pass. The rivals get the magnitudes ready, as float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...kernels.backends import get_backend
from ...kernels.compiler.passes import compile_values
from ...kernels.ir import Builder, Op, Space
from ...kernels.stages import KernelPlan, plan_bytes
from ...kernels.tensors import TensorSet
from ..caches import sets_for
from ..registry import Row
from ..timing import readers, timed
from .apply import copied

ROWS, COLS = 10_000, 5_000
RANK = round(0.8 * ROWS * COLS)
X_SORT, X_KTHVALUE = 30.0, 10.0


def program(rank: int) -> KernelPlan:
    b = Builder()
    size = b.add(Op.ABS, b.input("a"))
    return compile_values(b.graph(b.add(Op.KTH, size, attrs=(rank,), space=Space.SCALAR)))


def make_tensors(device: str) -> TensorSet:
    draw = torch.Generator(device).manual_seed(0)
    base = 0.02 * torch.randn(ROWS, COLS, generator=draw, device=device)
    noise = torch.randn(ROWS, COLS, generator=draw, device=device)
    expert = (base + 5e-4 * noise).bfloat16()
    return TensorSet("t", base.bfloat16(), {"a": expert})


def measure(zoo: Path, update: Callable[[int, int], None], device: str = "cpu") -> Row:
    """GB/s over GB/s of a plain read; how many times as fast as torch.sort and kthvalue."""
    backend = get_backend("cpu" if device == "cpu" else "triton")
    tensors, plan = make_tensors(device), program(RANK)
    sizes = tensors.vector("a", torch.float32).abs().flatten()
    ordered = sizes.sort().values
    for rank in (1, 2, ROWS * COLS // 2, RANK, ROWS * COLS - 1, ROWS * COLS):
        (found,) = backend.values(program(rank), tensors)
        assert found == ordered[rank - 1].cpu(), f"rank {rank}: {found} is not {ordered[rank - 1]}"
    update(1, 3)
    one = sum(plan_bytes(plan, (ROWS, COLS), {"base": 2, "a": 2}))
    count = sets_for(one) if device == "cpu" else 1
    sets = [tensors, *(copied(tensors) for _ in range(1, count))]
    moved = count * one
    times = timed(
        {
            "ours": lambda: [backend.values(plan, each) for each in sets],
            **readers(moved, device),
        },
        device=device,
    )
    update(2, 3)
    slow = timed(
        {
            "ours": lambda: backend.values(plan, tensors),
            "sort": lambda: sizes.sort(),
            "kthvalue": lambda: sizes.kthvalue(RANK),
        },
        rounds=3,
        device=device,
    )
    update(3, 3)
    ours = slow["ours"].median_s
    x_sort, x_kthvalue = slow["sort"].median_s / ours, slow["kthvalue"].median_s / ours
    return Row.of_bandwidth(
        "order",
        moved,
        times,
        floor="read",
        asked=device != "cpu" or (x_sort >= X_SORT and x_kthvalue >= X_KTHVALUE),
        more={"x_sort": x_sort, "x_kthvalue": x_kthvalue, "elements": count * ROWS * COLS},
        device=device,
    )
