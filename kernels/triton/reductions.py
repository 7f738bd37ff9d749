"""Runs sweeps by generated kernels: totals, vectors over rows or columns, k-th values.

`totals`, `vectors` and `ranks` start their launches, and return a function that waits for the results.
So a stage's launches are under way before its first result is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..compiler.clock import check
from ..compiler.subgraphs import part
from ..ir import KernelGraph, Space
from .body import Kernel
from .cache import load_source
from .codegen import FINISH_BLOCK, MOST_RANKS, SPECS, generate
from .elementwise import floats
from .kth import kth_values
from .launch import Batch, Launcher, chunks_of, column_chunks, num_parts, num_rows, row_chunks
from .partials import added_up, collect_totals, decoded, rounded
from .table import Row, Table, to_device

Results = Callable[
    [], list[list[Tensor]]
]  # gives, for each tensor of the batch, each output's value


def totals(graph: KernelGraph, batch: Batch) -> Results:
    """Start sums and extremes over whole tensors: a partial result for each chunk, then `finish`."""
    kernel, num_owners = generate(graph, "total", batch.dtypes), len(batch.sets)
    size, launch = len(kernel.sums) + len(kernel.extremes), Launcher.of(kernel, batch)
    started: list[tuple[Sequence[Row], Tensor]] = []
    for rows, whole in launch.split([0] * num_owners, chunks_of(SPECS["total"].chunk)):
        partials = integers(batch, rows[-1].chunk + rows[-1].num_chunks, size)
        start = partials.data_ptr()
        each = launch.table(rows, lambda row, at=start: at + 4 * size * row.chunk, whole)
        launch.run(each)
        started.append((rows, finish(each, partials, kernel)))

    def results() -> list[list[Tensor]]:
        parts = [
            (row.owner, values)
            for rows, sums in started
            for row, values in zip(rows, sums.tolist(), strict=True)
        ]
        return rounded(graph, kernel, collect_totals(kernel, num_owners, parts))

    return results


def finish(each: Table, partials: Tensor, kernel: Kernel) -> Tensor:
    """Start adding up partial results. Returns float64 [rows of the table, sums and extremes]."""
    shape, device = (len(each.rows), partials.shape[1]), partials.device
    out = torch.empty(shape, dtype=torch.float64, device=device)
    bounds = to_device(each.bounds, torch.int32, device)
    function = load_source(kernel.source).finish
    sizes = {"NUM": partials.shape[1], "NUM_SUMS": len(kernel.sums), "BLOCK": FINISH_BLOCK}
    function[shape](partials, bounds, out, **sizes, enable_fp_fusion=False)
    return out


def vectors(graph: KernelGraph, batch: Batch) -> Results:
    """Start sums and extremes over rows, [R, 1], or over columns, [1, C]."""
    by_row = graph.nodes[graph.outputs[0]].space is Space.ROW
    kernel = generate(graph, "rows" if by_row else "columns", batch.dtypes)
    size, launch = len(kernel.sums) + len(kernel.extremes), Launcher.of(kernel, batch)
    lengths = [num_rows(e) if by_row else num_parts(e) * e.num_cols for e in launch.entries]
    buffers = [integers(batch, length, size) for length in lengths]
    count = row_chunks if by_row else column_chunks
    for each in launch.tables([b.data_ptr() for b in buffers], count):
        launch.run(each)
    if by_row:
        stacked = [b.T[:, :, None] for b in buffers]
    else:
        shapes = [(num_parts(e), size, 1, e.num_cols) for e in launch.entries]
        stacked = [
            added_up(b.view(shape), kernel) for b, shape in zip(buffers, shapes, strict=True)
        ]
    return lambda: [
        [decoded(graph, kernel, output, values) for output in graph.outputs] for values in stacked
    ]


def ranks(graph: KernelGraph, batch: Batch) -> Results:
    """Start k-th values of one expression. In rows and columns torch selects them, on the device."""
    space = graph.nodes[graph.outputs[0]].space
    wanted = [graph.nodes[o].attrs[0] for o in graph.outputs]
    if space is Space.SCALAR:
        found: list[list[Tensor]] = [[] for _ in batch.sets]
        for k in range(0, len(wanted), MOST_RANKS):
            check()
            some = KernelGraph(graph.nodes, graph.outputs[k : k + MOST_RANKS])
            values = kth_values(some, batch, wanted[k : k + MOST_RANKS])
            found = [[*a, *b] for a, b in zip(found, values, strict=True)]
        return lambda: found
    whole = floats(part(graph, graph.nodes[graph.outputs[0]].args), batch)
    dim = 1 if space is Space.ROW else 0
    chosen: list[list[Tensor]] = []
    for values, tensors in zip(whole, batch.sets, strict=True):
        check()
        matrix = values.reshape(tensors.shape2d)
        chosen.append([matrix.kthvalue(k, dim, keepdim=True).values for k in wanted])
    return lambda: [[value.cpu() for value in values] for values in chosen]


def integers(batch: Batch, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int32, device=batch.device)
