"""Writes to memory that is read at the same time, which shape functions do not see.

Eager torch refuses some of them. For others its result depends on the order of its loops: those are
unsupported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..tree import found
from .memory import Lazy, meta_of
from .recorder import Unsupported

FILLING = ("aten::fill_", "aten::zero_")
CHECKED = ("aten::copy_",)
SEVERAL = (
    "unsupported operation: more than one element of the written-to tensor refers to a single memory "
    "location. Please clone() the tensor before performing the operation."
)
SOME = (
    "unsupported operation: some elements of the input tensor and the written-to tensor refer to a "
    "single memory location. Please clone() the tensor before performing the operation."
)


def check_mode(target: Lazy, inference: bool) -> None:
    """Raises eager's error for a write to a tensor of inference_mode outside of that mode."""
    if target.lazy_inference and not inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed"
        )


def check_write(func: Any, target: Lazy, given: Any) -> None:
    """Raises eager's error, or Unsupported, unless a write to the target is well defined."""
    sizes, strides = target.lazy_meta.shape, target.lazy_meta.stride()
    name = func._schema.name
    if any(n > 1 and step == 0 for n, step in zip(sizes, strides, strict=True)):
        if name not in FILLING and (torch.Tag.pointwise in func.tags or name in CHECKED):
            raise RuntimeError(SEVERAL)
        raise Unsupported(f"{func} of an expanded tensor: clone() it first")
    if not distinct(sizes, strides):
        raise Unsupported(f"{func} of a view that holds an element twice: clone() it first")
    for other in found(given, Lazy):
        if other is not target and other.lazy_buffer is target.lazy_buffer:
            check_apart(func, target.lazy_meta, other.lazy_meta)


def check_repeats_nothing(source: Any, new: Any) -> None:
    """Raises Unsupported where a part of an expanded tensor is written to: other parts would change, too."""
    if meta_of(source).numel() != meta_of(new).numel():
        raise Unsupported("a write to a part of an expanded tensor: clone() it first")


def check_apart(func: Any, x: Tensor, y: Tensor) -> None:
    """Raises if a write to x changes what is read from y, and they are not the same view."""
    if x.numel() == 0 or y.numel() == 0:
        return
    if (x.shape, x.stride(), x.storage_offset()) == (y.shape, y.stride(), y.storage_offset()):
        return
    first, second = sorted((extent(x), extent(y)))
    if second[0] > first[1]:
        return
    if is_dense(x) and is_dense(y):
        if first != second or x.stride() != y.stride():
            raise RuntimeError(SOME)
    elif x.stride() != y.stride() or meets(x, y):
        raise Unsupported(f"{func} of a part from an overlapping part: clone() one of them")


def extent(x: Tensor) -> tuple[int, int]:
    """The first and the last element of a view in its owner's memory."""
    start = int(x.storage_offset())
    return start, start + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))


def is_dense(x: Tensor) -> bool:
    first, last = extent(x)
    return last - first + 1 == x.numel() and distinct(x.shape, x.stride())


def distinct(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Tells whether no two elements share memory, as far as nested strides show it."""
    reach = 0
    for step, n in sorted((s, n) for n, s in zip(sizes, strides, strict=True) if n > 1):
        if step <= reach:
            return False
        reach += (n - 1) * step
    return True


def meets(x: Tensor, y: Tensor) -> bool:
    """Tells whether two views with the same nested strides have an element in common."""
    pairs = zip(x.stride(), x.shape, y.shape, strict=True)
    axes = sorted(((s, n, m) for s, n, m in pairs if max(n, m) > 1), reverse=True)
    return reaches(int(y.storage_offset() - x.storage_offset()), axes)


def reaches(distance: int, axes: list[tuple[int, int, int]]) -> bool:
    """Tells whether steps i of x and j of y exist with the sum of (i - j) * stride = distance."""
    if not axes:
        return distance == 0
    (step, n, m), *rest = axes
    around = (distance // step, distance // step + 1)
    return any(-m < k < n and reaches(distance - k * step, rest) for k in around)
