"""The Triton backend: generated kernels, one launch for all tensors of a stage that share formats.

Sums are float32 within a chunk of 16,384 elements, the chunks' partial results are added in float64 in
a fixed order: two runs give the same bits. Launches are not waited for before all of a stage are under
way. Without a GPU the kernels run in Triton's interpreter, on the CPU: right, slow, and said so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from ..compiler.subgraphs import grouped, part
from ..execution.backend import Backend
from ..ir import KernelGraph, Space
from ..tensors import Slots, TensorSet
from .body import Kernel
from .cache import load_source
from .codegen import (
    FINISH_BLOCK,
    MOST_RANKS,
    MOST_REDUCTIONS,
    SPECS,
    generate,
    inputs_of,
    shared_kernel,
)
from .kth import Runner, kth_values
from .launch import (
    Batch,
    Launcher,
    chunks_of,
    column_chunks,
    import_triton,
    num_parts,
    num_rows,
    row_chunks,
)
from .partials import added_up, collect_totals, decoded, rounded
from .table import Row, Table, to_device

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
MOST_ELEMENTS = 1 << 28  # of one `apply` launch: the next is prepared while it runs
Results = Callable[[], list[list[Tensor]]]  # of what was started: by tensor and output


@final
class TritonBackend(Backend):
    """On the GPU, or interpreted."""

    name = "triton"

    def __init__(self) -> None:
        self.interpreted = not torch.cuda.is_available()
        import_triton(self.interpreted)
        self.device = torch.device("cpu" if self.interpreted else "cuda")
        if self.interpreted:
            print("no GPU: --backend triton runs in Triton's interpreter, slowly", file=sys.stderr)

    # ---- what a backend does

    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        return self.apply_all(graph, [tensors], [slots], [out])[0]

    def apply_all(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        flags: dict[int, Tensor] = {}
        for batch in self.batches(graph, sets, slots):
            wanted = [outs[j] for j in batch.members]
            written = [out if self.takes(out) else self.empty_like(out) for out in wanted]
            kernel = generate(graph, "apply", batch.dtypes)
            flags |= dict(
                zip(batch.members, self.apply_kernel(kernel, batch, written), strict=True)
            )
            for out, result in zip(wanted, written, strict=True):
                if out is not result:
                    out.copy_(result)
        raised = torch.stack([flags[j] for j in range(len(sets))]).tolist()
        return [not flag for flag in raised]

    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        (batch,) = self.batches(graph, [tensors], [slots])
        return self.floats(graph, batch)[0].cpu()

    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return self.sweep_all(graph, [tensors], [slots])[0]

    def sweep_all(
        self, graph: KernelGraph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> list[list[Tensor]]:
        found: list[dict[int, Tensor]] = [{} for _ in sets]
        kind = partial(shared_kernel, graph)
        for (space, ranked), outputs in grouped(graph, kind, MOST_REDUCTIONS):
            wanted = part(graph, outputs)
            run = self.ranks if ranked else self.totals if space is Space.SCALAR else self.vectors
            started = [
                (batch.members, run(wanted, batch))
                for batch in self.batches(wanted, sets, slots, most=None)
            ]
            for members, results in started:
                for j, values in zip(members, results(), strict=True):
                    found[j].update(zip(outputs, values, strict=True))
        return [[values[output] for output in graph.outputs] for values in found]

    def moments(self, tensors: TensorSet) -> Tensor:
        """By torch, on the device."""
        return super().moments(self.on_device(tensors, list(tensors.experts)))

    # ---- which tensors share a launch

    def batches(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        most: int | None = MOST_ELEMENTS,
    ) -> Iterator[Batch]:
        """By formats and at most so many elements. What is not on the device comes alone and is
        moved when it is asked for, so that one fits where all do not."""
        groups: dict[Any, list[int]] = {}
        names, piece, elements = inputs_of(graph), 0, 0
        for j, tensors in enumerate(sets):
            read = [tensors.base, *(tensors.experts[name] for name in names)]
            elements += tensors.base.numel()
            if most is not None and elements > most:
                piece, elements = piece + 1, tensors.base.numel()
            alone = None if all(map(self.holds, read)) else j
            groups.setdefault((*(NAMES[t.dtype] for t in read), piece, alone), []).append(j)
        for (*dtypes, _, alone), members in groups.items():
            mine = [sets[j] if alone is None else self.on_device(sets[j], names) for j in members]
            numbers = tuple(slots[j] for j in members)
            yield Batch(tuple(members), tuple(dtypes), tuple(mine), numbers)

    def holds(self, tensor: Tensor) -> bool:
        return tensor.is_cuda or self.interpreted

    def takes(self, out: Tensor) -> bool:
        return self.holds(out) and out.is_contiguous()

    def on_device(self, tensors: TensorSet, names: Sequence[str]) -> TensorSet:
        experts = {name: tensors.experts[name].to(self.device) for name in names}
        return TensorSet(tensors.name, tensors.base.to(self.device), experts)

    def empty_like(self, out: Tensor) -> Tensor:
        return torch.empty(out.shape, dtype=out.dtype, device=self.device)

    # ---- the element-wise pass

    def floats(self, graph: KernelGraph, batch: Batch) -> list[Tensor]:
        """The graph's FULL output, float32, on the device."""
        outs = [torch.empty(s.base.shape, device=self.device) for s in batch.sets]
        self.apply_kernel(generate(graph, "apply", batch.dtypes, merged=False), batch, outs)
        return outs

    def apply_kernel(self, kernel: Kernel, batch: Batch, outs: Sequence[Tensor]) -> Tensor:
        """[tensors] int32, 1 where a result is not finite; not waited for."""
        flags = torch.zeros(len(outs), dtype=torch.int32, device=self.device)
        addresses = [out.data_ptr() for out in outs]
        launch = self.launcher(kernel, batch)
        for each in launch.tables(addresses, chunks_of(SPECS["apply"].chunk)):
            launch.run(each, flags)
        return flags

    # ---- reductions

    def totals(self, graph: KernelGraph, batch: Batch) -> Results:
        """Over whole tensors: chunks, then `finish`."""
        kernel, num_owners = generate(graph, "total", batch.dtypes), len(batch.sets)
        size, launch = len(kernel.sums) + len(kernel.extremes), self.launcher(kernel, batch)
        started: list[tuple[Sequence[Row], Tensor]] = []
        for rows, whole in launch.split([0] * num_owners, chunks_of(SPECS["total"].chunk)):
            partials = self.integers(rows[-1].chunk + rows[-1].num_chunks, size)
            start = partials.data_ptr()
            each = launch.table(rows, lambda row, at=start: at + 4 * size * row.chunk, whole)
            launch.run(each)
            started.append((rows, self.finish(each, partials, kernel)))

        def results() -> list[list[Tensor]]:
            parts = [
                (row.owner, values)
                for rows, totals in started
                for row, values in zip(rows, totals.tolist(), strict=True)
            ]
            return rounded(graph, kernel, collect_totals(kernel, num_owners, parts))

        return results

    def finish(self, each: Table, partials: Tensor, kernel: Kernel) -> Tensor:
        shape = len(each.rows), partials.shape[1]
        out = torch.empty(shape, dtype=torch.float64, device=self.device)
        bounds = to_device(each.bounds, torch.int32, self.device)
        function = load_source(kernel.source).finish
        sizes = {"NUM": partials.shape[1], "NUM_SUMS": len(kernel.sums), "BLOCK": FINISH_BLOCK}
        function[shape](partials, bounds, out, **sizes, enable_fp_fusion=False)
        return out

    def vectors(self, graph: KernelGraph, batch: Batch) -> Results:
        """Over rows, or over columns: [R, 1] or [1, C] of each output."""
        by_row = graph.nodes[graph.outputs[0]].space is Space.ROW
        kernel = generate(graph, "rows" if by_row else "columns", batch.dtypes)
        size, launch = len(kernel.sums) + len(kernel.extremes), self.launcher(kernel, batch)
        lengths = [num_rows(e) if by_row else num_parts(e) * e.num_cols for e in launch.entries]
        buffers = [self.integers(length, size) for length in lengths]
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
            [decoded(graph, kernel, output, values) for output in graph.outputs]
            for values in stacked
        ]

    def ranks(self, graph: KernelGraph, batch: Batch) -> Results:
        """k-th values of one expression. Along rows or columns torch selects, on the device."""
        space = graph.nodes[graph.outputs[0]].space
        wanted = [graph.nodes[o].attrs[0] for o in graph.outputs]
        if space is Space.SCALAR:
            runner = Runner(self.device, self.floats, self.launcher)
            found: list[list[Tensor]] = [[] for _ in batch.sets]
            for k in range(0, len(wanted), MOST_RANKS):
                some = KernelGraph(graph.nodes, graph.outputs[k : k + MOST_RANKS])
                values = kth_values(runner, some, batch, wanted[k : k + MOST_RANKS])
                found = [[*a, *b] for a, b in zip(found, values, strict=True)]
            return lambda: found
        whole = self.floats(part(graph, graph.nodes[graph.outputs[0]].args), batch)
        dim = 1 if space is Space.ROW else 0
        matrices = [w.reshape(s.shape2d) for w, s in zip(whole, batch.sets, strict=True)]
        chosen = [[m.kthvalue(k, dim, keepdim=True).values for k in wanted] for m in matrices]
        return lambda: [[value.cpu() for value in values] for values in chosen]

    # ---- launching

    def launcher(self, kernel: Kernel, batch: Batch) -> Launcher:
        return Launcher.of(kernel, batch, self.device)

    def integers(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=self.device)
