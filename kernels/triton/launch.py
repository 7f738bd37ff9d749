"""The Triton backend: generated kernels, one launch for all tensors of a stage that share formats.

Sums are float32 within a chunk of 16,384 elements, the chunks' partial results are added in float64 in
a fixed order: two runs give the same bits. Without a GPU the kernels run in Triton's interpreter, on
the CPU: right, slow, and said so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from ..backend import Backend, BackendError, Slots, TensorSet
from ..ir import Graph, Op, Space
from ..staging import grouped, part
from . import order
from .body import Kernel
from .cache import load_source
from .codegen import MOST_RANKS, MOST_REDUCTIONS, SPECS, generate, inputs_of, shared_kernel
from .table import Entry, Row, Table, split, table, whole_elements

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
COLUMNS = SPECS["columns"].sizes
FINISH_BLOCK = 1024


def import_triton(interpret: bool) -> Any:
    """triton, in the interpreter or not; that is decided when it is first imported."""
    if interpret and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except ImportError as error:
        raise BackendError(
            f"triton is not installed ({error}): pip install 'selfdev-engine[triton]'"
        ) from None
    if interpret and not triton.knobs.runtime.interpret:  # pyright: ignore[reportAttributeAccessIssue]
        raise BackendError("without a GPU, triton must not be imported before this backend is made")
    return triton


@dataclass(frozen=True)
class Batch:
    """Tensors of one combination of formats, on the device, and their numbers among all."""

    members: tuple[int, ...]
    dtypes: tuple[str, ...]  # of base and inputs
    sets: tuple[TensorSet, ...]
    slots: tuple[Slots, ...]


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

    def apply(self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        return self.apply_all(graph, [tensors], [slots], [out])[0]

    def apply_all(
        self,
        graph: Graph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        finite = [True] * len(sets)
        for batch in self.batches(graph, sets, slots):
            wanted = [outs[j] for j in batch.members]
            written = [out if self.takes(out) else self.empty_like(out) for out in wanted]
            for j, ok in zip(batch.members, self.elementwise(graph, batch, written), strict=True):
                finite[j] = ok
            for out, result in zip(wanted, written, strict=True):
                if out is not result:
                    out.copy_(result)
        return finite

    def expression(self, graph: Graph, tensors: TensorSet, slots: Slots) -> Tensor:
        (batch,) = self.batches(graph, [tensors], [slots])
        return self.floats(graph, batch)[0].cpu()

    def sweep(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return self.sweep_all(graph, [tensors], [slots])[0]

    def sweep_all(
        self, graph: Graph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> list[list[Tensor]]:
        found: list[dict[int, Tensor]] = [{} for _ in sets]
        kind = partial(shared_kernel, graph)
        for (space, ranked), outputs in grouped(graph, kind, MOST_REDUCTIONS):
            run = self.ranks if ranked else self.totals if space is Space.SCALAR else self.vectors
            wanted = part(graph, outputs)
            for batch in self.batches(wanted, sets, slots):
                for j, values in zip(batch.members, run(wanted, batch), strict=True):
                    found[j].update(zip(outputs, values, strict=True))
        return [[values[output] for output in graph.outputs] for values in found]

    # ---- which tensors share a launch

    def batches(
        self, graph: Graph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> Iterator[Batch]:
        """By formats. What is not on the device comes alone, so that one fits where all do not."""
        groups: dict[Any, list[int]] = {}
        names = inputs_of(graph)
        for j, tensors in enumerate(sets):
            read = [tensors.base, *(tensors.experts[name] for name in names)]
            alone = None if all(map(self.holds, read)) else j
            groups.setdefault((*(NAMES[t.dtype] for t in read), alone), []).append(j)
        for (*dtypes, alone), members in groups.items():
            read = [sets[j] for j in members]
            if alone is not None:
                read = [self.on_device(sets[alone], names)]
            yield Batch(
                tuple(members), tuple(dtypes), tuple(read), tuple(slots[j] for j in members)
            )

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

    def elementwise(self, graph: Graph, batch: Batch, outs: Sequence[Tensor]) -> list[bool]:
        """Write base + update; whether all of each is finite."""
        flags = self.apply_kernel(generate(graph, "apply", batch.dtypes), batch, outs)
        return [not flag for flag in flags.tolist()]

    def floats(self, graph: Graph, batch: Batch) -> list[Tensor]:
        """The graph's FULL output, float32, on the device."""
        outs = [torch.empty(s.base.shape, device=self.device) for s in batch.sets]
        self.apply_kernel(generate(graph, "apply", batch.dtypes, merged=False), batch, outs)
        return outs

    def apply_kernel(self, kernel: Kernel, batch: Batch, outs: Sequence[Tensor]) -> Tensor:
        flags = torch.zeros(len(outs), dtype=torch.int32, device=self.device)
        addresses = [out.data_ptr() for out in outs]
        launch = self.launcher(kernel, batch)
        for each in launch.tables(addresses, chunks_of(SPECS["apply"].chunk)):
            launch.run(each, flags)
        return flags

    # ---- reductions

    def totals(self, graph: Graph, batch: Batch) -> list[list[Tensor]]:
        """Over whole tensors: chunks on the device, the second stage by `finish`."""
        kernel = generate(graph, "total", batch.dtypes)
        size, launch = len(kernel.sums) + len(kernel.extremes), self.launcher(kernel, batch)
        found = [[0.0] * len(kernel.sums) + [LOWEST] * len(kernel.extremes) for _ in batch.sets]
        for rows, whole in launch.split([0] * len(batch.sets), chunks_of(SPECS["total"].chunk)):
            partial = self.integers(rows[-1].chunk + rows[-1].num_chunks, size)
            start = partial.data_ptr()
            each = launch.table(rows, lambda row, at=start: at + 4 * size * row.chunk, whole)
            launch.run(each)
            for row, values in zip(rows, self.finished(each, partial, kernel), strict=True):
                mine = found[row.owner]
                for k, value in enumerate(values):
                    mine[k] = mine[k] + value if k < len(kernel.sums) else max(mine[k], value)
        return rounded(graph, kernel, found)

    def finished(self, each: Table, partial: Tensor, kernel: Kernel) -> list[list[float]]:
        out = torch.empty(len(each.rows), partial.shape[1], dtype=torch.float64, device=self.device)
        bounds = torch.tensor(each.bounds, dtype=torch.int32, device=self.device)
        function = load_source(kernel.source).finish
        sizes = {"NUM": partial.shape[1], "NUM_SUMS": len(kernel.sums), "BLOCK": FINISH_BLOCK}
        function[tuple(out.shape)](partial, bounds, out, **sizes, enable_fp_fusion=False)
        return out.tolist()

    def vectors(self, graph: Graph, batch: Batch) -> list[list[Tensor]]:
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
        return [
            [decoded(graph, kernel, output, values) for output in graph.outputs]
            for values in stacked
        ]

    def ranks(self, graph: Graph, batch: Batch) -> list[list[Tensor]]:
        """k-th values of one expression. Along rows or columns torch selects, on the device."""
        space = graph.nodes[graph.outputs[0]].space
        wanted = [graph.nodes[o].attrs[0] for o in graph.outputs]
        if space is Space.SCALAR:
            found: list[list[Tensor]] = [[] for _ in batch.sets]
            for k in range(0, len(wanted), MOST_RANKS):
                some = Graph(graph.nodes, graph.outputs[k : k + MOST_RANKS])
                values = order.kth_values(self, some, batch, wanted[k : k + MOST_RANKS])
                found = [[*a, *b] for a, b in zip(found, values, strict=True)]
            return found
        whole = self.floats(part(graph, graph.nodes[graph.outputs[0]].args), batch)
        dim = 1 if space is Space.ROW else 0
        matrices = [w.reshape(s.shape2d) for w, s in zip(whole, batch.sets, strict=True)]
        return [[m.kthvalue(k, dim, keepdim=True).values.cpu() for k in wanted] for m in matrices]

    # ---- launching

    def launcher(self, kernel: Kernel, batch: Batch) -> Launcher:
        return Launcher.of(kernel, batch, self.device)

    def integers(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=self.device)


@dataclass(frozen=True)
class Launcher:
    """One kernel and the tensors it runs over."""

    kernel: Kernel
    entries: tuple[Entry, ...]
    params: Tensor
    device: torch.device
    kept: tuple[Tensor, ...]  # what the table's addresses point to

    @staticmethod
    def of(kernel: Kernel, batch: Batch, device: torch.device) -> Launcher:
        entries, numbers, kept = [], list[Tensor](), list[Tensor]()
        for tensors, slots in zip(batch.sets, batch.slots, strict=True):
            read = [tensors.base] if kernel.reads_base else []
            read += [tensors.experts[name] for name in kernel.inputs]
            read += [vector(slots, s, device) for s in (*kernel.rows, *kernel.cols)]
            addresses = tuple(t.data_ptr() for t in read)
            cols = tensors.base.shape[-1] if tensors.base.dim() else 1
            entries.append(Entry(addresses, tensors.base.numel(), cols, len(numbers)))
            numbers += [v for s in kernel.scalars if (v := slots[s]) is not None]
            kept += read
        values = {id(number): float(number) for number in {id(n): n for n in numbers}.values()}
        listed = [values[id(number)] for number in numbers] or [0.0]
        params = torch.tensor(listed, dtype=torch.float32, device=device)
        return Launcher(kernel, tuple(entries), params, device, tuple(kept))

    def split(
        self, outs: Sequence[int], num_chunks: Callable[[Entry, int], int]
    ) -> list[tuple[list[Row], bool]]:
        """The rows of each table that has any, and whether it is the one for whole eights."""
        found = split(self.kernel, self.entries, outs, num_chunks)
        return [(rows, whole) for whole, rows in found.items() if rows]

    def whole(self, owner: int, out: int) -> int:
        """How many of the first elements of a tensor can be accessed by 8."""
        return whole_elements(self.kernel, self.entries[owner], out)

    def table(self, rows: Sequence[Row], out_of: Callable[[Row], int], whole: bool) -> Table:
        return table(self.kernel, self.entries, rows, out_of, self.device, whole)

    def tables(
        self, outs: Sequence[int], num_chunks: Callable[[Entry, int], int]
    ) -> Iterator[Table]:
        for rows, whole in self.split(outs, num_chunks):
            yield self.table(rows, lambda row: outs[row.owner], whole)

    def run(self, each: Table, *more: Tensor, **sizes: int) -> None:
        kind = self.kernel.kind
        function, spec = getattr(load_source(self.kernel.source), kind), SPECS[kind]
        sizes = {**spec.sizes, "ITERS": self.iters(each), **sizes}
        arguments = (each.cells, each.chunk_row, self.params, *more)
        function[(len(each.chunk_row),)](*arguments, **sizes, WHOLE=each.whole, **spec.options)

    def iters(self, each: Table) -> int:
        """Blocks of a chunk: fewer where all tensors are shorter than a chunk."""
        spec, entries = SPECS[self.kernel.kind], (self.entries[row.owner] for row in each.rows)
        if self.kernel.kind == "columns":
            blocks = max(-(-num_rows(e) // spec.sizes["ROWS"]) for e in entries)
        else:
            by_row = self.kernel.kind == "rows"
            blocks = max(-(-(e.num_cols if by_row else e.numel) // spec.block) for e in entries)
        return min(spec.sizes["ITERS"], 1 << (blocks - 1).bit_length())


def vector(slots: Slots, index: int, device: torch.device) -> Tensor:
    value = slots[index]
    assert value is not None, "a slot is read before it is filled"
    return value.to(device).float().contiguous()


# ---- chunks


def chunks_of(elements: int) -> Callable[[Entry, int], int]:
    return lambda entry, count: -(-count // elements)


def num_rows(entry: Entry) -> int:
    return entry.numel // entry.num_cols


def num_parts(entry: Entry) -> int:
    """How often a column's rows are cut."""
    return -(-num_rows(entry) // (COLUMNS["ROWS"] * COLUMNS["ITERS"]))


def row_chunks(entry: Entry, count: int) -> int:
    return num_rows(entry)


def column_chunks(entry: Entry, count: int) -> int:
    return num_parts(entry) * -(-entry.num_cols // COLUMNS["COLS"])


# ---- from partial results to values. Extremes travel as integers in the order of the floats

LOWEST = float(-(2**31))
HIGHEST = 2**31 - 1


def floats_of(keys: Tensor) -> Tensor:
    """float32 of int32 keys; the highest is NaN."""
    bits = keys ^ ((keys >> 31) & HIGHEST)
    return torch.where(keys == HIGHEST, torch.nan, bits.view(torch.float32))


def rounded(graph: Graph, kernel: Kernel, found: Sequence[Sequence[float]]) -> list[list[Tensor]]:
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


def decoded(graph: Graph, kernel: Kernel, output: int, values: Tensor) -> Tensor:
    """One output's vector, on the CPU."""
    bits = values[(*kernel.sums, *kernel.extremes).index(output)].contiguous().cpu()
    if output in kernel.sums:
        return bits.view(torch.float32).clone()
    found = floats_of(bits)
    return -found if graph.nodes[output].op is Op.REDUCE_MIN else found
