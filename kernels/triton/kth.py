"""Finds exact k-th values on the device, by narrowing an interval of keys until it holds few or one.

Keys are int32 numbers that compare as the floats do. A sorted sample suggests pivots around the rank.
One pass counts the keys below each pivot, which leaves an interval. If few keys are in it, a second
pass collects them, and they are sorted. Otherwise the interval is split evenly, and counted again.
Counts are integers, and what is collected is sorted. So the result depends neither on which program
runs first nor on the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..compiler.clock import check
from ..compiler.subgraphs import part
from ..ir import KernelGraph
from ..tensors import TensorSet
from .codegen import SPECS, generate, inputs_of
from .elementwise import floats
from .launch import Batch, Launcher, chunks_of
from .partials import floats_of
from .table import to_device
from .templates import NUM_PIVOTS

SAMPLE, SAMPLE_ROWS = 1 << 16, 256
SPREAD = (-16.0, -4.0, -1.0, 0.0, 0.0, 1.0, 4.0, 16.0)  # pivots, in standard errors of the sample
FEW, ALWAYS_FEW = 1 / 32, 1024  # a share of the elements, and a number of elements
LOWEST, END = -(2**31), 2**31  # keys are at least LOWEST and less than END


@dataclass
class Interval:
    """Keys that are at least `low` and less than `high`; the key of rank `rank` is among them."""

    rank: int  # from 0
    numel: int
    low: int = LOWEST
    high: int = END
    below_low: int = 0  # keys less than `low`
    below_high: int = -1  # keys less than `high`

    def __post_init__(self) -> None:
        self.below_high = self.numel

    @property
    def num_inside(self) -> int:
        return self.below_high - self.below_low

    @property
    def is_small(self) -> bool:
        return self.high - self.low == 1 or self.num_inside <= max(ALWAYS_FEW, FEW * self.numel)

    def narrow(self, pivots: Sequence[int], below: Sequence[int]) -> None:
        """Move the bounds to the pivots next to the rank; `below` counts the keys below each pivot."""
        for pivot, count in zip(pivots, below, strict=True):
            if count <= self.rank and pivot > self.low:
                self.low, self.below_low = pivot, count
            elif count > self.rank and pivot < self.high:
                self.high, self.below_high = pivot, count

    def evenly(self) -> list[int]:
        """Return pivots that split the interval evenly."""
        width = self.high - self.low
        return [self.low + width * (j + 1) // (NUM_PIVOTS + 1) for j in range(NUM_PIVOTS)]


def kth_values(graph: KernelGraph, batch: Batch, ranks: Sequence[int]) -> list[list[Tensor]]:
    """Return, for each tensor, the value of each rank: float32 [].

    The graph's outputs are KTH nodes of one value, one for each of the ranks, which count from 1.
    """
    intervals = [[Interval(k - 1, s.base.numel()) for k in ranks] for s in batch.sets]
    pivots = suggested(graph, batch, intervals)
    while not all(i.is_small for row in intervals for i in row):
        check()
        counts = count_below(graph, batch, pivots)
        for row, tried, found in zip(intervals, pivots, counts, strict=True):
            for interval, mine, below in zip(row, tried, found, strict=True):
                interval.narrow(mine, below)
        pivots = [[interval.evenly() for interval in row] for row in intervals]
    keys = collected(graph, batch, intervals)
    values = floats_of(torch.tensor(keys, dtype=torch.int32))
    return [list(row.unbind()) for row in values.unbind()]


def suggested(
    graph: KernelGraph, batch: Batch, intervals: Sequence[Sequence[Interval]]
) -> list[list[list[int]]]:
    """Return pivots [tensors, ranks, NUM_PIVOTS] from a sorted sample of each tensor's values."""
    values = part(graph, graph.nodes[graph.outputs[0]].args)
    samples = floats(values, sample(values, batch))
    sizes = [one.numel() for one in samples]
    lines = torch.full((len(sizes), max(sizes)), torch.nan, device=batch.device)
    for line, one in zip(lines, samples, strict=True):
        line[: one.numel()] = one.flatten()
    places = [[around(i, size) for i in row] for row, size in zip(intervals, sizes, strict=True)]
    at = to_device(places, torch.int64, batch.device)
    found = lines.sort(1).values.gather(1, at.flatten(1)).reshape(at.shape)
    keys = torch.where(found == found, keys_of(found), END - 1).to(torch.int64)
    # Two pivots are the sample's middle value. The second one moves up by one, so that all keys which
    # equal this value lie between the two.
    keys[..., SPREAD.index(0.0) + 1] += 1
    return keys.clamp(LOWEST, END - 1).tolist()


def around(interval: Interval, size: int) -> list[int]:
    """Return the places of the pivots in a sorted sample of `size` values."""
    share = (interval.rank + 0.5) / interval.numel
    error = math.sqrt(size * share * (1 - share))
    return [min(max(round(share * size + step * error), 0), size - 1) for step in SPREAD]


def keys_of(values: Tensor) -> Tensor:
    bits = (values + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & (END - 1))


def sample(graph: KernelGraph, batch: Batch) -> Batch:
    """Return a batch of every so many rows and columns of each tensor, and of its vectors.

    A value that depends on the place of its element, by a range or a draw, is another one in the
    sample. Then the sample suggests worse pivots, and the result is the same.
    """
    sets, slots = [], []
    for tensors, own in zip(batch.sets, batch.slots, strict=True):
        rows, cols = tensors.shape2d
        down = max(1, rows // SAMPLE_ROWS)
        across = max(1, rows // down * cols // SAMPLE)
        cut = partial(thinned, down=down, across=across)
        experts = {n: cut(tensors.experts[n].view(rows, cols)) for n in inputs_of(graph)}
        sets.append(TensorSet(tensors.name, cut(tensors.base.view(rows, cols)), experts))
        slots.append([None if value is None else cut(value) for value in own])
    return replace(batch, sets=tuple(sets), slots=tuple(slots))


def thinned(value: Tensor, down: int, across: int) -> Tensor:
    """Return every `down`-th row and `across`-th column of [R, C], [R, 1], [1, C] or []."""
    if not value.dim():
        return value
    down = down if value.shape[0] > 1 else 1
    return value[::down, :: across if value.shape[1] > 1 else 1].contiguous()


def count_below(
    graph: KernelGraph, batch: Batch, pivots: Sequence[Sequence[Sequence[int]]]
) -> list[list[list[int]]]:
    """Return how many keys are below each pivot, [tensors, ranks, NUM_PIVOTS], by one pass."""
    wanted = to_device(pivots, torch.int32, batch.device)
    counts = torch.zeros_like(wanted)
    launch = Launcher.of(generate(graph, "below", batch.dtypes), batch)
    outs = [counts.data_ptr()] * len(batch.sets)
    for each in launch.tables(outs, chunks_of(SPECS["below"].chunk)):
        launch.run(each, wanted)
    return counts.tolist()


def collected(
    graph: KernelGraph, batch: Batch, intervals: Sequence[Sequence[Interval]]
) -> list[list[int]]:
    """Return the key of each rank, [tensors, ranks].

    It is the interval's only key, or is found by sorting the keys inside, which one pass collects.
    """
    flat = [i for row in intervals for i in row]
    if all(i.high - i.low == 1 for i in flat):
        return [[i.low for i in row] for row in intervals]
    sizes = [0 if i.high - i.low == 1 else i.num_inside for i in flat]
    bounds = [(i.low, i.high - 1) if size else (1, 0) for i, size in zip(flat, sizes, strict=True)]
    device, width = batch.device, max(sizes)
    low, high = (to_device(list(each), torch.int32, device) for each in zip(*bounds, strict=True))
    out = torch.full((len(flat), width), END - 1, dtype=torch.int32, device=device)
    starts = width * torch.arange(len(flat), device=device)
    taken = torch.zeros(len(flat), dtype=torch.int32, device=device)
    launch = Launcher.of(generate(graph, "collect", batch.dtypes), batch)
    for each in launch.tables(
        [out.data_ptr()] * len(batch.sets), chunks_of(SPECS["collect"].chunk)
    ):
        launch.run(each, low, high, starts, taken)
    places = [i.rank - i.below_low if size else 0 for i, size in zip(flat, sizes, strict=True)]
    at = to_device(places, torch.int64, device)[:, None]
    keys = out.sort(1).values.gather(1, at).flatten().tolist()
    keys = [key if size else i.low for i, key, size in zip(flat, keys, sizes, strict=True)]
    num_ranks = len(graph.outputs)
    return [keys[t : t + num_ranks] for t in range(0, len(keys), num_ranks)]
