"""Lazy tensors, the buffers that own their memory, and numpy arrays that share it.

A small tensor that `numpy()` was called on becomes memory: real numbers that its arrays see and
change, until the last array is gone. Of a large tensor only a copy of a part is given out. What is
written to that copy is written back at the next read; a write to the tensor would not reach it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops import run
from .recorder import Node, Unsupported

META, CPU = torch.device("meta"), torch.device("cpu")


@dataclass(eq=False)
class Part:
    """A copy of a part of a large tensor that numpy() gave out, and the numbers last seen in it."""

    lazy: Lazy
    array: np.ndarray
    seen: np.ndarray

    def is_held(self) -> bool:
        return is_held(self.array, 1)

    def changed(self) -> bool:
        nan_alike = self.array.dtype.kind == "f"
        return not np.array_equal(self.array, self.seen, equal_nan=nan_alike)


@dataclass(eq=False)
class Buffer:
    """Owns memory. With `arrays` the value is real, and it is changed in place."""

    value: Any  # a Node or a real tensor, in the owner's shape
    flat: bool  # whether the owner is contiguous
    version: int = 0
    arrays: list[np.ndarray] = field(default_factory=list)  # share the value's memory
    parts: list[Part] = field(default_factory=list)

    def is_memory(self) -> bool:
        """Tells whether arrays share it. When the last one is gone it is a value again."""
        if self.arrays and not any(self.is_held(array) for array in self.arrays):
            self.arrays.clear()
            self.version += 1
        return bool(self.arrays)

    @staticmethod
    def is_held(array: np.ndarray) -> bool:
        """Tells whether the program can still see an array."""
        if array.base is None:
            # A tensor was made of it, and holds it.
            return is_held(array, 4)
        # What is a view of another array may have other readers.
        return not isinstance(array.base, Tensor) or is_held(array, 3)

    def become_memory(self, numbers: Tensor) -> None:
        """Takes a copy of its own numbers, because values are shared between buffers."""
        if not self.is_memory():
            self.value, self.version = numbers.clone(), self.version + 1


def is_held(array: np.ndarray, references: int) -> bool:
    """Tells whether anything but so many references of ours holds an array, or a view of it."""
    # Two more are this function's own. A view holds its array.
    return sys.getrefcount(array) > references + 2


class Lazy(Tensor):
    """A tensor without storage; the mode does all the work."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    __slots__ = ("lazy_buffer", "lazy_cached", "lazy_inference", "lazy_meta", "lazy_path")
    lazy_buffer: Buffer
    lazy_path: tuple[Any, ...]
    lazy_meta: Tensor
    lazy_cached: tuple[int, Any]
    # Made in inference_mode: outside of it nothing may be written to the tensor.
    lazy_inference: bool

    @staticmethod
    def __new__(
        cls, buffer: Buffer, path: tuple[Any, ...], meta: Tensor, inference: bool = False
    ) -> Lazy:
        lazy = Tensor._make_wrapper_subclass(
            cls, meta.shape, meta.stride(), meta.storage_offset(), dtype=meta.dtype, device=CPU
        )
        lazy.lazy_buffer, lazy.lazy_path, lazy.lazy_meta = buffer, path, meta
        lazy.lazy_cached, lazy.lazy_inference = (-1, None), inference
        return lazy

    def __copy__(self) -> Tensor:
        """Shares the storage, as a shallow copy of a tensor does."""
        return self.detach()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Unsupported(f"{func} outside the traced function")


# Programs print type(x) and its name.
Lazy.__name__, Lazy.__qualname__, Lazy.__module__ = "Tensor", "Tensor", "torch"


def meta_of(x: Any) -> Any:
    if isinstance(x, Lazy):
        return x.lazy_meta
    if isinstance(x, Node):
        return x.meta
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)


def in_memory(t: Lazy) -> Tensor:
    """The real tensor that shares its buffer's memory. Raises Unsupported."""
    memory = view = t.lazy_buffer.value
    for func, *rest in t.lazy_path:
        view = run(func, (view, *rest), {})
    if view.untyped_storage().data_ptr() != memory.untyped_storage().data_ptr():
        raise Unsupported("a view by strides of memory that numpy shares")
    return view
