"""Parts of a small value by strides: its cells are taken as contiguous memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...trace.graph import TraceNode
from ..scope import MAX_CELLS, Scope
from ..value import Value


def strided(
    scope: Scope, node: TraceNode, x: Value, size: list[int], stride: list[int], offset: Any = 0
) -> Value:
    at = strided_places(scope, x, size, stride, offset)
    return Value(tuple(size), x.cells.reshape(-1)[at], x.dtype)


def strided_scatter(
    scope: Scope, node: TraceNode, x: Value, source: Value, size: list[int], stride: list[int],
    offset: Any = 0,
) -> Value:  # fmt: skip
    at = strided_places(scope, x, size, stride, offset)
    cells = x.cells.reshape(-1).copy()
    cells[at] = np.broadcast_to(source.spread(tuple(size)), at.shape)
    return Value(x.dims, cells.reshape(x.cells.shape), x.dtype)


def strided_places(
    scope: Scope, x: Value, size: list[int], stride: list[int], offset: Any
) -> np.ndarray:
    if not all(isinstance(d, int) for d in x.dims):
        scope.fail("strides of rows and columns")
    if math.prod(size) > MAX_CELLS or max(size, default=0) > MAX_CELLS:
        scope.fail(f"strides that make a tensor of {tuple(size)}")
    grid = np.indices(tuple(size)).reshape(len(size), math.prod(size))
    at = (np.array(stride, dtype=np.int64) @ grid + (offset or 0)).reshape(tuple(size))
    if at.size and not 0 <= at.min() <= at.max() < x.cells.size:
        scope.fail("strides beyond a tensor's end")
    return at


RULES: dict[str, Callable[..., Any]] = {
    "aten.as_strided": strided,
    "aten.as_strided_scatter": strided_scatter,
}
