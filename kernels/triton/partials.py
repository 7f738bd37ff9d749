"""Turns partial results into values.

A partial result is int32: a sum is the bits of its float32, an extreme an integer that compares as the
floats do. Integers, because tl.max drops NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ir import KernelGraph, Op
from .body import Kernel

LOWEST = float(-(2**31))
HIGHEST = 2**31 - 1


def floats_of(keys: Tensor) -> Tensor:
    """Return the float32 values of int32 keys; the highest key is NaN."""
    bits = keys ^ ((keys >> 31) & HIGHEST)
    return torch.where(keys == HIGHEST, torch.nan, bits.view(torch.float32))


def rounded(
    graph: KernelGraph, kernel: Kernel, found: Sequence[Sequence[float]]
) -> list[list[Tensor]]:
    """Return, for each tensor, each output's value, float64 []. `found` are the tensors' totals."""
    cut = len(kernel.sums)
    sums = torch.tensor([totals[:cut] for totals in found], dtype=torch.float64)
    keys = torch.tensor([[int(v) for v in totals[cut:]] for totals in found], dtype=torch.int32)
    values = torch.cat((sums, floats_of(keys).double()), 1)
    lowest = [graph.nodes[o].op is Op.REDUCE_MIN for o in (*kernel.sums, *kernel.extremes)]
    values = torch.where(torch.tensor(lowest), -values, values)
    at = [(*kernel.sums, *kernel.extremes).index(output) for output in graph.outputs]
    return [list(row.unbind()) for row in values[:, at].unbind()]


def added_up(partial: Tensor, kernel: Kernel) -> Tensor:
    """Combine the parts of columns: int32 [parts, terms, 1, C] becomes [terms, 1, C].

    The terms are the sums, then the extremes.
    """
    cut = len(kernel.sums)
    sums = partial[:, :cut].view(torch.float32).double().sum(0).float().view(torch.int32)
    return torch.cat((sums, partial[:, cut:].amax(0))) if kernel.extremes else sums


def decoded(graph: KernelGraph, kernel: Kernel, output: int, values: Tensor) -> Tensor:
    """Return one output's vector, float32 on the CPU, from int32 [terms, ...]."""
    bits = values[(*kernel.sums, *kernel.extremes).index(output)].contiguous().cpu()
    if output in kernel.sums:
        return bits.view(torch.float32).clone()
    found = floats_of(bits)
    return -found if graph.nodes[output].op is Op.REDUCE_MIN else found


def collect_totals(
    kernel: Kernel, num_owners: int, parts: Sequence[tuple[int, Sequence[float]]]
) -> list[list[float]]:
    """Return the totals of each owner's parts: its sums, then its extremes' keys."""
    cut = len(kernel.sums)
    found = [[0.0] * cut + [LOWEST] * len(kernel.extremes) for _ in range(num_owners)]
    for owner, values in parts:
        mine = found[owner]
        for k, value in enumerate(values):
            mine[k] = mine[k] + value if k < cut else max(mine[k], value)
    return found
