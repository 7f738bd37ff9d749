"""Descriptor tables, by which one launch serves many tensors.

A row is one tensor, or one part of it: its addresses, its range of elements, its sizes, the place of
its numbers in the parameter buffer. A map says for every chunk which row it belongs to. Parts whose
addresses and lengths allow accesses of 16 bytes are in the `whole` table, all others in a second one.
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
EIGHT = 8  # elements; in bf16 they are 16 bytes


@dataclass(frozen=True)
class Entry:
    """One tensor in a launch."""

    addresses: tuple[int, ...]  # as `Kernel.addresses` names them, without the output's
    numel: int
    num_cols: int
    params: int  # where its numbers begin in the parameter buffer


@dataclass(frozen=True)
class Row:
    """A range of one entry's elements."""

    owner: int  # the entry
    first: int
    stop: int
    chunk: int  # its first chunk
    num_chunks: int


@dataclass(frozen=True)
class Table:
    """A descriptor table on the device."""

    cells: Tensor  # [rows, kernel.width] int64
    chunk_row: Tensor  # [chunks] int32, the row of each chunk
    rows: tuple[Row, ...]
    whole: bool

    @property
    def bounds(self) -> list[int]:
        """The first chunk of each row, and the number of all chunks."""
        return [*(row.chunk for row in self.rows), self.rows[-1].chunk + self.rows[-1].num_chunks]


def split(
    kernel: Kernel,
    entries: Sequence[Entry],
    outs: Sequence[int],
    num_chunks: Callable[[Entry, int], int],
) -> dict[bool, list[Row]]:
    """Return the rows of the two tables, by whether WHOLE holds for them.

    `outs` are the addresses that the entries write to. `num_chunks` counts the chunks of a part,
    given its entry and its number of elements.
    """
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
    """Return how many of an entry's first elements can be accessed 8 at a time."""
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
    """Return the table of these rows; `out_of` gives the address that a row writes to."""
    cells = []
    for row in rows:
        entry = entries[row.owner]
        known = (row.first, row.stop, entry.num_cols, entry.params, row.chunk, row.owner)
        cells.append([*entry.addresses, out_of(row), *known])
    chunk_row = chunk_map(tuple(row.num_chunks for row in rows), device)
    return Table(to_device(cells, torch.int64, device), chunk_row, tuple(rows), whole)


@lru_cache(maxsize=16)
def chunk_map(num_chunks: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the row of each chunk, int32 [chunks].

    Maps are kept, because the same tensors are merged again and again.
    """
    counts = torch.tensor(num_chunks, device=device)
    numbers = torch.arange(len(num_chunks), dtype=torch.int32, device=device)
    return torch.repeat_interleave(numbers, counts)


def to_device(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor on the device, copied without waiting for kernels that are under way."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
