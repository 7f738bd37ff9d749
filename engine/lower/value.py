"""A traced tensor while it is lowered: its dimensions, and a kernel node per cell.

A dimension is an int or an Axis. An int is a small axis that is unrolled: experts, or a dimension
of size 1. An Axis is rows, columns, or rows and columns flattened; all of it, a strided range of
its indices, or the places where a mask holds (x[mask]). `cells` is an array of node indices over
the int dimensions only, in their order. A value on a part of an axis is an expression over the
whole axis that counts in this part only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


class NotFusable(Exception):
    """An operation that the streamed kernels cannot run."""

    def __init__(self, op: str, why: str) -> None:
        super().__init__(f"{op}: {why}")
        self.op, self.why = op, why


@dataclass(frozen=True)
class Axis:
    """A symbolic axis of the checkpoint's tensor, "rows", "cols" or "flat", or a part of one.

    `mask` is a kernel node that is 1 at `count` places: the part consists of those.
    """

    kind: str
    start: int = 0
    stop: int | None = None  # None means up to the end
    step: int = 1
    mask: int | None = None
    count: int = 0

    @property
    def whole(self) -> bool:
        return self.stop is None and self.mask is None


ROWS, COLS, FLAT = Axis("rows"), Axis("cols"), Axis("flat")
Dim = int | Axis


@dataclass(frozen=True)
class Value:
    """A lowered tensor. `cells.shape` is the tuple of its int dimensions."""

    dims: tuple[Dim, ...]
    cells: np.ndarray
    dtype: torch.dtype | None

    @property
    def has_ranges(self) -> bool:
        return any(isinstance(d, Axis) and not d.whole for d in self.dims)

    def small_position(self, dim: int) -> int:
        """The axis of `cells` that belongs to an int dimension."""
        return sum(isinstance(d, int) for d in self.dims[:dim])

    def spread(self, dims: tuple[Dim, ...]) -> np.ndarray:
        """The cells with an axis for every int dimension of `dims`, ready to be broadcast."""
        offset = len(dims) - len(self.dims)
        index: list[slice | int | None] = []
        for position, dim in enumerate(dims):
            mine = self.dims[position - offset] if position >= offset else None
            if isinstance(dim, int):
                index.append(slice(None) if isinstance(mine, int) else None)
            elif isinstance(mine, int):  # It is 1 where `dims` has an axis.
                index.append(0)
        return self.cells[tuple(index)] if index else self.cells

    @property
    def is_bool(self) -> bool:
        return self.dtype is torch.bool
