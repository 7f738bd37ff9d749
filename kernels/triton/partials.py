"""From partial results to values. Sums travel as float32 by their bits, extremes as integers in the
order of the floats, because tl.max drops NaN and integers do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ir import KernelGraph, Op
from .body import Kernel

LOWEST = float(-(2**31))
HIGHEST = 2**31 - 1


def floats_of(keys: Tensor) -> Tensor:
    """float32 of int32 keys; the highest is NaN."""
    bits = keys ^ ((keys >> 31) & HIGHEST)
    return torch.where(keys == HIGHEST, torch.nan, bits.view(torch.float32))


def rounded(
    graph: KernelGraph, kernel: Kernel, found: Sequence[Sequence[float]]
) -> list[list[Tensor]]:
    """[] float32 of each of the graph's outputs, from each tensor's totals."""
    cut = len(kernel.sums)
    sums = torch.tensor([totals[:cut] for totals in found], dtype=torch.float32)
    keys = torch.tensor([[int(v) for v in totals[cut:]] for totals in found], dtype=torch.int32)
    values = torch.cat((sums, floats_of(keys)), 1)
    lowest = [graph.nodes[o].op is Op.REDUCE_MIN for o in (*kernel.sums, *kernel.extremes)]
    values = torch.where(torch.tensor(lowest), -values, values)
    at = [(*kernel.sums, *kernel.extremes).index(output) for output in graph.outputs]
    return [list(row.unbind()) for row in values[:, at].unbind()]


def added_up(partial: Tensor, kernel: Kernel) -> Tensor:
    """[sums and extremes, 1, C] int32 of partial results [parts, sums and extremes, 1, C]."""
    cut = len(kernel.sums)
    sums = partial[:, :cut].view(torch.float32).double().sum(0).float().view(torch.int32)
    return torch.cat((sums, partial[:, cut:].amax(0))) if kernel.extremes else sums


def decoded(graph: KernelGraph, kernel: Kernel, output: int, values: Tensor) -> Tensor:
    """One output's vector, on the CPU."""
    bits = values[(*kernel.sums, *kernel.extremes).index(output)].contiguous().cpu()
    if output in kernel.sums:
        return bits.view(torch.float32).clone()
    found = floats_of(bits)
    return -found if graph.nodes[output].op is Op.REDUCE_MIN else found


def collect_totals(
    kernel: Kernel, num_owners: int, parts: Sequence[tuple[int, Sequence[float]]]
) -> list[list[float]]:
    """Each owner's totals of its parts: sums, then the extremes' keys."""
    cut = len(kernel.sums)
    found = [[0.0] * cut + [LOWEST] * len(kernel.extremes) for _ in range(num_owners)]
    for owner, values in parts:
        mine = found[owner]
        for k, value in enumerate(values):
            mine[k] = mine[k] + value if k < cut else max(mine[k], value)
    return found
