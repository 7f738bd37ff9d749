"""`sweep`: 12 statistics of 3 task vectors in one pass, beside a plain read of the same bytes.

The statistics are 6 products, 3 sums and 3 sums of magnitudes of base + 3 experts in bf16. The read
uses as many threads and is the floor. The rival is torch with float32 task vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from pathlib import Path

import torch

from ...kernels.backends import get_backend
from ...kernels.compiler.passes import compile_values
from ...kernels.ir import Builder, KernelGraph, Op, Space
from ...kernels.stages import plan_bytes
from ...kernels.tensors import TensorSet
from ..caches import sets_for
from ..registry import Row
from ..timing import readers, timed
from .apply import COLS, ITEMSIZES, ROWS, SETS, make_sets

TARGET = 0.50
# 1.4 B elements.
GPU_SETS = 24


def statistics_graph() -> KernelGraph:
    """Graph of 6 products, 3 sums and 3 sums of magnitudes."""
    b = Builder()
    values = [b.input(name) for name in "abc"]
    summed = [b.add(Op.MUL, x, y) for x, y in combinations_with_replacement(values, 2)]
    summed += [*values, *(b.add(Op.ABS, x) for x in values)]
    return b.graph(*(b.add(Op.REDUCE_SUM, x, space=Space.SCALAR) for x in summed))


def eager(tensors: TensorSet, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    base = tensors.base.to(dtype)
    deltas = [(expert.to(dtype) - base).flatten() for expert in tensors.experts.values()]
    found = [x.dot(y) for x, y in combinations_with_replacement(deltas, 2)]
    return [*found, *(x.sum() for x in deltas), *(x.abs().sum() for x in deltas)]


def check(tensors: TensorSet, found: list[torch.Tensor]) -> None:
    """Check each statistic in float64, to 1e-6 of the sum of its terms' magnitudes."""
    deltas = [tensors.vector(name, torch.float64).flatten() for name in "abc"]
    sizes = [(x * y).abs().sum() for x, y in combinations_with_replacement(deltas, 2)]
    sizes += 2 * [x.abs().sum() for x in deltas]
    for value, wanted, size in zip(found, eager(tensors, torch.float64), sizes, strict=True):
        assert abs(value.to(wanted.device) - wanted) <= 1e-6 * size, f"{value} is not {wanted}"


def measure(zoo: Path, update: Callable[[int, int], None], device: str = "cpu") -> Row:
    """GB/s of the sweep over GB/s of a read, with the same threads, in the same run."""
    plan = compile_values(statistics_graph())
    backend = get_backend("cpu" if device == "cpu" else "triton")
    count = sets_for(4 * 2 * ROWS * COLS, least=SETS) if device == "cpu" else GPU_SETS
    sets = make_sets(count, device)

    def ours() -> list[list[torch.Tensor]]:
        return backend.values_all([plan] * len(sets), sets, [None] * len(sets))

    few = sets if device != "cpu" else sets[:SETS]
    for tensors, found in zip(few, ours(), strict=False):
        check(tensors, found)
    update(1, 2)
    moved = len(sets) * sum(plan_bytes(plan, sets[0].shape2d, ITEMSIZES))
    times = timed(
        {
            "ours": ours,
            **readers(moved, device),
            "eager": lambda: [eager(s) for s in few],
        },
        device=device,
    )
    update(2, 2)
    faster = times["eager"].median_s * len(sets) / len(few) / times["ours"].median_s
    return Row.of_bandwidth(
        "sweep",
        moved,
        times,
        floor="read",
        target=TARGET,
        more={"x_eager_torch": faster},
        device=device,
    )
