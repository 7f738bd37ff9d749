"""Launches one kernel over many tensors: lists what it reads, cuts the work, places the numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError
from ..tensors import Slots, TensorSet
from .body import Kernel
from .cache import load_source
from .codegen import SPECS
from .table import Entry, Row, Table, split, table, to_device

COLUMNS = SPECS["columns"].sizes


def import_triton(interpret: bool) -> Any:
    """Return the module triton. Whether it interprets is decided when it is first imported.

    Raises BackendError where it is not installed, or was imported before without its interpreter.
    """
    if interpret and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except ImportError as error:
        raise BackendError(f"triton is not installed ({error}): pip install triton") from None
    if interpret and not triton.knobs.runtime.interpret:  # pyright: ignore[reportAttributeAccessIssue]
        raise BackendError("without a GPU, triton must not be imported before this backend is made")
    return triton


@dataclass(frozen=True)
class Batch:
    """Tensors on the device that one launch serves, since their formats agree."""

    members: tuple[int, ...]  # their numbers among all tensors of the stage
    dtypes: tuple[str, ...]  # formats of the base and the inputs
    sets: tuple[TensorSet, ...]
    slots: tuple[Slots, ...]
    device: torch.device


@dataclass(frozen=True)
class Launcher:
    """One kernel and the tensors that it runs over."""

    kernel: Kernel
    entries: tuple[Entry, ...]
    params: Tensor  # float32: the numbers of all entries
    device: torch.device
    kept: tuple[Tensor, ...]  # owns the memory that the table's addresses point to

    @staticmethod
    def of(kernel: Kernel, batch: Batch) -> Launcher:
        """Return the launcher of a kernel over a batch."""
        entries, numbers, kept = [], list[Tensor](), list[Tensor]()
        for tensors, slots in zip(batch.sets, batch.slots, strict=True):
            read = [tensors.base] if kernel.reads_base else []
            read += [tensors.experts[name] for name in kernel.inputs]
            read += [vector(slots, s, batch.device) for s in (*kernel.rows, *kernel.cols)]
            addresses = tuple(t.data_ptr() for t in read)
            cols = tensors.base.shape[-1] if tensors.base.dim() else 1
            entries.append(Entry(addresses, tensors.base.numel(), cols, len(numbers)))
            numbers += [v for s in kernel.scalars if (v := slots[s]) is not None]
            kept += read
        values = {id(number): float(number) for number in {id(n): n for n in numbers}.values()}
        listed = [values[id(number)] for number in numbers] or [0.0]
        params = to_device(listed, torch.float32, batch.device)
        return Launcher(kernel, tuple(entries), params, batch.device, tuple(kept))

    def split(
        self, outs: Sequence[int], num_chunks: Callable[[Entry, int], int]
    ) -> list[tuple[list[Row], bool]]:
        """Return the rows of each table that has any, and whether it is the one for WHOLE."""
        found = split(self.kernel, self.entries, outs, num_chunks)
        return [(rows, whole) for whole, rows in found.items() if rows]

    def table(self, rows: Sequence[Row], out_of: Callable[[Row], int], whole: bool) -> Table:
        """Return the table of these rows; `out_of` gives the address that a row writes to."""
        return table(self.kernel, self.entries, rows, out_of, self.device, whole)

    def tables(
        self, outs: Sequence[int], num_chunks: Callable[[Entry, int], int]
    ) -> Iterator[Table]:
        """Yield each table that has rows; `outs` are the addresses that the entries write to."""
        for rows, whole in self.split(outs, num_chunks):
            yield self.table(rows, lambda row: outs[row.owner], whole)

    def run(self, each: Table, *more: Tensor, **sizes: int) -> None:
        """Launch the kernel over a table and do not wait. `more` are its further arguments."""
        kind = self.kernel.kind
        function, spec = getattr(load_source(self.kernel.source), kind), SPECS[kind]
        sizes = {**spec.sizes, "ITERS": self.iters(each), **sizes}
        arguments = (each.cells, each.chunk_row, self.params, *more)
        function[(len(each.chunk_row),)](*arguments, **sizes, WHOLE=each.whole, **spec.options)

    def iters(self, each: Table) -> int:
        """Return the number of blocks in a chunk: fewer where all tensors are shorter than a chunk."""
        spec, entries = SPECS[self.kernel.kind], (self.entries[row.owner] for row in each.rows)
        if self.kernel.kind == "columns":
            blocks = max(-(-num_rows(e) // spec.sizes["ROWS"]) for e in entries)
        else:
            by_row = self.kernel.kind == "rows"
            blocks = max(-(-(e.num_cols if by_row else e.numel) // spec.block) for e in entries)
        return min(spec.sizes["ITERS"], 1 << (blocks - 1).bit_length())


def vector(slots: Slots, index: int, device: torch.device) -> Tensor:
    """Return a slot's vector as the kernel reads it."""
    value = slots[index]
    assert value is not None, "a slot is read before it is filled"
    return value.to(device).float().contiguous()


# ---- how many chunks an entry has, or a part of it of `count` elements


def chunks_of(elements: int) -> Callable[[Entry, int], int]:
    """Return the count of chunks of so many elements."""
    return lambda entry, count: -(-count // elements)


def num_rows(entry: Entry) -> int:
    return entry.numel // entry.num_cols


def num_parts(entry: Entry) -> int:
    """Return into how many parts a column's rows are cut."""
    return -(-num_rows(entry) // (COLUMNS["ROWS"] * COLUMNS["ITERS"]))


def row_chunks(entry: Entry, count: int) -> int:
    return num_rows(entry)


def column_chunks(entry: Entry, count: int) -> int:
    return num_parts(entry) * -(-entry.num_cols // COLUMNS["COLS"])
