"""Descriptor tables: what lets one launch serve many tensors.

A row is one tensor, or one part of it: addresses, the range of elements, sizes, the place of its numbers
in the parameter buffer. A map says for every chunk which row it belongs to. Parts whose addresses and
lengths allow 16-byte accesses are in the `whole` table, all else in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .body import FLAT, Kernel

ALIGNMENT_BYTES = 16
EIGHT = 8  # elements: 16 bytes of bf16


@dataclass(frozen=True)
class Entry:
    """One tensor in a launch; `addresses` in the kernel's order, without the output's."""

    addresses: tuple[int, ...]
    numel: int
    num_cols: int
    params: int  # where its numbers begin


@dataclass(frozen=True)
class Row:
    """Elements `first` to `stop` of entry `owner`, from chunk `chunk` on."""

    owner: int
    first: int
    stop: int
    chunk: int
    num_chunks: int


@dataclass(frozen=True)
class Table:
    cells: Tensor  # [rows, kernel.width] int64
    chunk_row: Tensor  # [chunks] int32
    rows: tuple[Row, ...]
    whole: bool

    @property
    def bounds(self) -> list[int]:
        """The chunk at which each row begins, and the end."""
        return [*(row.chunk for row in self.rows), self.rows[-1].chunk + self.rows[-1].num_chunks]


def split(
    kernel: Kernel,
    entries: Sequence[Entry],
    outs: Sequence[int],
    num_chunks: Callable[[Entry, int], int],
) -> dict[bool, list[Row]]:
    """Rows of the two tables; `num_chunks` of an entry and a number of elements."""
    rows: dict[bool, list[Row]] = {True: [], False: []}
    for owner, (entry, out) in enumerate(zip(entries, outs, strict=True)):
        cut = whole_elements(kernel, entry, out)
        for whole, first, stop in ((True, 0, cut), (False, cut, entry.numel)):
            if first < stop:
                before = rows[whole][-1] if rows[whole] else Row(0, 0, 0, 0, 0)
                chunk = before.chunk + before.num_chunks
                chunks = num_chunks(entry, stop - first)
                rows[whole].append(Row(owner, first, stop, chunk, chunks))
    return rows


def whole_elements(kernel: Kernel, entry: Entry, out: int) -> int:
    """How many of the first elements can be accessed by 8."""
    if any(address % ALIGNMENT_BYTES for address in (*entry.addresses, out)):
        return 0
    by_place = kernel.kind not in FLAT or kernel.rows or kernel.cols
    if by_place and entry.num_cols % EIGHT:
        return 0
    return entry.numel // EIGHT * EIGHT


def table(
    kernel: Kernel,
    entries: Sequence[Entry],
    rows: Sequence[Row],
    out_of: Callable[[Row], int],
    device: torch.device,
    whole: bool,
) -> Table:
    """The table on the device; `out_of`: the address that a row writes to."""
    cells = []
    for row in rows:
        entry = entries[row.owner]
        known = (row.first, row.stop, entry.num_cols, entry.params, row.chunk, row.owner)
        cells.append([*entry.addresses, out_of(row), *known])
    chunk_row = chunk_map(tuple(row.num_chunks for row in rows), device)
    return Table(to_device(cells, torch.int64, device), chunk_row, tuple(rows), whole)


@lru_cache(maxsize=16)
def chunk_map(num_chunks: tuple[int, ...], device: torch.device) -> Tensor:
    """[chunks] int32: the row of each chunk. Kept, since the same tensors are merged again and again."""
    counts = torch.tensor(num_chunks, device=device)
    numbers = torch.arange(len(num_chunks), dtype=torch.int32, device=device)
    return torch.repeat_interleave(numbers, counts)


def to_device(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copied without waiting for the kernels that are under way."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
