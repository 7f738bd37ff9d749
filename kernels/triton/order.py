"""Exact k-th values on the device, by narrowing an interval of keys until it holds few or one.

Keys are int32 in the order of the floats. A sorted sample suggests pivots around the rank; one pass
counts the keys below each, which leaves an interval; when few keys are in it, a second pass collects
them and they are sorted. Otherwise the interval is split evenly and counted again. Counts are integers
and what is collected is sorted: the result depends on no order of execution, and not on the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ir import Graph
from ..staging import part
from .codegen import SPECS, generate
from .table import Row
from .templates import NUM_PIVOTS

if TYPE_CHECKING:
    from .launch import Batch, TritonBackend

PIECE, NUM_PIECES = 1024, 64  # of the sample: elements in a row, places
SPREAD = (-16.0, -4.0, -1.0, 0.0, 0.0, 1.0, 4.0, 16.0)  # pivots, in standard errors of the sample
FEW = 1 / 32  # of the elements
LOWEST, END = -(2**31), 2**31  # the keys are from LOWEST to below END


@dataclass
class Interval:
    """Keys from `low` to below `high` that hold rank `rank` (from 0) of all; counts below each."""

    rank: int
    numel: int
    low: int = LOWEST
    high: int = END
    below_low: int = 0
    below_high: int = -1

    def __post_init__(self) -> None:
        self.below_high = self.numel

    @property
    def num_inside(self) -> int:
        return self.below_high - self.below_low

    @property
    def is_small(self) -> bool:
        return self.high - self.low == 1 or self.num_inside <= max(PIECE, FEW * self.numel)

    def narrow(self, pivots: Sequence[int], below: Sequence[int]) -> None:
        for pivot, count in zip(pivots, below, strict=True):
            if count <= self.rank and pivot > self.low:
                self.low, self.below_low = pivot, count
            elif count > self.rank and pivot < self.high:
                self.high, self.below_high = pivot, count

    def evenly(self) -> list[int]:
        """Pivots inside."""
        width = self.high - self.low
        return [self.low + width * (j + 1) // (NUM_PIVOTS + 1) for j in range(NUM_PIVOTS)]


def kth_values(
    backend: TritonBackend, graph: Graph, batch: Batch, ranks: Sequence[int]
) -> list[list[Tensor]]:
    """[] float32 of each of the batch's tensors and the graph's outputs (KTH nodes of one value)."""
    from .launch import floats_of

    intervals = [[Interval(k - 1, s.base.numel()) for k in ranks] for s in batch.sets]
    pivots = suggested(backend, graph, batch, intervals)
    while not all(i.is_small for row in intervals for i in row):
        counts = count_below(backend, graph, batch, pivots)
        for row, tried, found in zip(intervals, pivots, counts, strict=True):
            for interval, mine, below in zip(row, tried, found, strict=True):
                interval.narrow(mine, below)
        pivots = [[interval.evenly() for interval in row] for row in intervals]
    keys = collected(backend, graph, batch, intervals)
    return [[floats_of(torch.tensor(key, dtype=torch.int32)) for key in row] for row in keys]


def suggested(
    backend: TritonBackend, graph: Graph, batch: Batch, intervals: Sequence[Sequence[Interval]]
) -> list[list[list[int]]]:
    """Pivots [tensors, ranks, NUM_PIVOTS] from a sorted sample of each tensor's values."""
    samples = sampled(backend, part(graph, graph.nodes[graph.outputs[0]].args), batch)
    places = torch.zeros(len(batch.sets), len(graph.outputs), NUM_PIVOTS, dtype=torch.int64)
    for t, row in enumerate(intervals):
        size = sample_size(row[0].numel)
        for q, interval in enumerate(row):
            share = (interval.rank + 0.5) / interval.numel
            error = math.sqrt(size * share * (1 - share))
            for j, step in enumerate(SPREAD):
                places[t, q, j] = min(max(round(share * size + step * error), 0), size - 1)
    flat = places.flatten(1).to(samples.device)
    values = samples.gather(1, flat).view(torch.int32).reshape(places.shape)
    keys = (values ^ ((values >> 31) & (2**31 - 1))).to(torch.int64)
    keys[..., SPREAD.index(0.0) + 1] += 1  # the middle one and the next: they hold all its equals
    return keys.clamp(LOWEST, END - 1).tolist()


def sample_size(numel: int) -> int:
    return min(numel, PIECE * NUM_PIECES)


def sampled(backend: TritonBackend, graph: Graph, batch: Batch) -> Tensor:
    """[tensors, PIECE * NUM_PIECES] float32, sorted, NaN last: pieces spread evenly over each."""
    kernel = generate(graph, "apply", batch.dtypes, merged=False)
    launch = backend.launcher(kernel, batch)
    shape = (len(batch.sets), PIECE * NUM_PIECES)
    out = torch.full(shape, torch.nan, device=backend.device)
    rows: dict[bool, list[Row]] = {True: [], False: []}
    starts: dict[tuple[int, int], int] = {}
    for owner, entry in enumerate(launch.entries):
        pieces = min(NUM_PIECES, -(-entry.numel // PIECE))
        for k in range(pieces):
            first = (entry.numel - 1) * k // pieces // 8 * 8 if pieces == NUM_PIECES else k * PIECE
            stop = min(first + PIECE, entry.numel)
            whole = launch.whole(owner, out.data_ptr()) >= stop
            chunk = len(rows[whole])
            rows[whole].append(Row(owner, first, stop, chunk, 1))
            starts[owner, first] = out.data_ptr() + 4 * (owner * shape[1] + k * PIECE - first)
    flags = torch.zeros(len(batch.sets), dtype=torch.int32, device=backend.device)
    for whole, found in rows.items():
        if found:
            each = launch.table(found, lambda row: starts[row.owner, row.first], whole)
            launch.run(each, flags, ITERS=1)
    return out.sort(1).values


def count_below(
    backend: TritonBackend, graph: Graph, batch: Batch, pivots: Sequence[Sequence[Sequence[int]]]
) -> list[list[list[int]]]:
    """[tensors, ranks, NUM_PIVOTS] counts; one pass."""
    from .launch import chunks_of

    wanted = torch.tensor(pivots, dtype=torch.int32, device=backend.device)
    counts = torch.zeros_like(wanted)
    launch = backend.launcher(generate(graph, "below", batch.dtypes), batch)
    outs = [counts.data_ptr()] * len(batch.sets)
    for each in launch.tables(outs, chunks_of(SPECS["below"].chunk)):
        launch.run(each, wanted)
    return counts.tolist()


def collected(
    backend: TritonBackend, graph: Graph, batch: Batch, intervals: Sequence[Sequence[Interval]]
) -> list[list[int]]:
    """The key of each rank: the interval's only key, or by sorting what is inside; one pass."""
    from .launch import chunks_of

    flat = [i for row in intervals for i in row]
    if all(i.high - i.low == 1 for i in flat):
        return [[i.low for i in row] for row in intervals]
    sizes = [0 if i.high - i.low == 1 else i.num_inside for i in flat]
    bounds = [(i.low, i.high - 1) if size else (1, 0) for i, size in zip(flat, sizes, strict=True)]
    device, width = backend.device, max(sizes)
    low, high = torch.tensor(bounds, dtype=torch.int32, device=device).T.contiguous()
    out = torch.full((len(flat), width), END - 1, dtype=torch.int32, device=device)
    starts = width * torch.arange(len(flat), device=device)
    taken = torch.zeros(len(flat), dtype=torch.int32, device=device)
    launch = backend.launcher(generate(graph, "collect", batch.dtypes), batch)
    for each in launch.tables(
        [out.data_ptr()] * len(batch.sets), chunks_of(SPECS["collect"].chunk)
    ):
        launch.run(each, low, high, starts, taken)
    places = [i.rank - i.below_low if size else 0 for i, size in zip(flat, sizes, strict=True)]
    at = torch.tensor(places, device=device)[:, None]
    keys = out.sort(1).values.gather(1, at).flatten().tolist()
    keys = [key if size else i.low for i, key, size in zip(flat, keys, sizes, strict=True)]
    num_ranks = len(graph.outputs)
    return [keys[t : t + num_ranks] for t in range(0, len(keys), num_ranks)]
