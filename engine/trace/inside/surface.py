"""Python calls that read a tensor's storage, unseen by a dispatcher: numpy, tolist, print, data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from ..tree import found
from .lazy import LazyMode
from .memory import Buffer, Lazy, meta_of
from .recorder import BUGS, Unsupported, end_if_spoilt

# They tell where a tensor lies, or give it to code that looks there.
HANDLES = (
    *(Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage, Tensor.__dlpack__),
    Tensor.share_memory_,
)


def inference_mode_of(lazy_mode: LazyMode) -> Any:
    """Return a stand-in for torch.inference_mode, whose tensors would lose what a view needs here."""

    @contextmanager
    def inference(on: bool) -> Iterator[None]:
        before, lazy_mode.inference = lazy_mode.inference, on
        try:
            with torch.set_grad_enabled(not on):
                yield
        finally:
            lazy_mode.inference = before

    def inference_mode(mode: Any = True) -> Any:
        return inference(True)(mode) if callable(mode) else inference(mode)

    return inference_mode


def ignore(*_: Any, **__: Any) -> None:
    """Stands in for what chooses deterministic algorithms: on a CPU all are, but shape functions refuse some."""


def is_inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


class Surface(TorchFunctionMode):
    """Gives some functions a rule for lazy tensors, by a table. All others pass.

    A few functions never reach a mode. They are replaced meanwhile.
    """

    def __init__(self, mode: LazyMode) -> None:
        super().__init__()
        self.mode = mode
        refused = dict.fromkeys(HANDLES, self.refuse_memory)
        self.rules = refused | {
            Tensor.numpy: self.array,
            Tensor.__array__: self.as_array,
            Tensor.tolist: self.to_list,
            Tensor.__repr__: self.text,
            Tensor.__format__: self.formatted,
            Tensor.__deepcopy__: self.deep_copy,
            Tensor.__reduce_ex__: self.refuse_pickle,
            Tensor.data.__set__: self.rebind,  # type: ignore[attr-defined]
            torch.tensor: self.tensor,
            torch.as_tensor: self.as_tensor,
            torch.asarray: self.as_tensor,
        }
        self.replaced: dict[tuple[Any, str], Any] = {
            (torch, "from_numpy"): self.from_numpy,
            (torch, "frombuffer"): self.refuse_memory,
            (torch, "from_dlpack"): self.refuse_memory,
            (torch, "inference_mode"): inference_mode_of(mode),
            (torch, "use_deterministic_algorithms"): ignore,
            (torch, "set_deterministic_debug_mode"): ignore,
            (Tensor, "as_subclass"): self.refuse_memory,
        }

    def __enter__(self) -> Self:
        self.swap()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.swap()

    def swap(self) -> None:
        """Puts the replaced functions in place, or torch's own back."""
        for (owner, name), function in self.replaced.items():
            self.replaced[owner, name] = getattr(owner, name)
            setattr(owner, name, function)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (rule := self.rules.get(func)) is None:
            return func(*args, **(kwargs or {}))
        end_if_spoilt()
        try:
            return rule(*args, **(kwargs or {}))
        except BUGS as error:
            raise Unsupported(f"{func.__name__}: {type(error).__name__}: {error}") from error

    def array(self, t: Tensor, *, force: bool = False) -> np.ndarray:
        """Rule for numpy(): the array shares the tensor's memory."""
        if t.requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            )
        with _disable_current_modes():
            return self.mode.array(t) if isinstance(t, Lazy) else t.detach().numpy()

    def as_array(self, t: Tensor, dtype: Any = None) -> np.ndarray:
        array = self.array(t)
        return array if dtype is None else array.astype(dtype, copy=False)

    def to_list(self, t: Tensor) -> Any:
        return self.mode.real(t).tolist()

    def from_numpy(self, array: np.ndarray) -> Tensor:
        """Stands in for torch.from_numpy: the tensor shares the array's memory."""
        with _disable_current_modes():
            real = self.replaced[torch, "from_numpy"](array)
            tensor = self.mode.wrap(real, meta_of(real))
        tensor.lazy_buffer.arrays.append(array)
        return tensor

    def deep_copy(self, t: Tensor, memo: dict[Any, Any]) -> Tensor:
        """Rule for deepcopy: views of one tensor are views of one copy."""
        if t.requires_grad and not t.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol"
            )
        if not isinstance(t, Lazy):
            return torch.Tensor.__deepcopy__(t, memo)
        buffer = t.lazy_buffer
        owner = memo.setdefault(id(buffer), Buffer(self.mode.owned(buffer), buffer.flat))
        copied = Lazy(owner, t.lazy_path, t.lazy_meta).requires_grad_(t.requires_grad)
        return memo.setdefault(id(t), copied)

    def text(self, t: Tensor, **_: Any) -> str:
        """Rule for repr. The numbers of a large tensor are never asked for."""
        if isinstance(t, Lazy) and not self.mode.small(t.lazy_meta):
            return f"tensor(..., size={tuple(t.shape)})"
        with _disable_current_modes():
            return repr(self.mode.real(t))

    def formatted(self, t: Tensor, spec: str) -> str:
        return format(self.text(t) if t.dim() else t.item(), spec)

    def refuse_memory(self, *_: Any, **__: Any) -> Any:
        raise Unsupported("a tensor's memory itself (data_ptr, storages, subclasses, frombuffer)")

    def refuse_pickle(self, t: Tensor, *_: Any) -> Any:
        raise PermissionError("pickling and torch.save are not allowed here")

    def rebind(self, t: Lazy, new: Lazy) -> None:
        if t.shape != new.shape or t.dtype != new.dtype:
            raise Unsupported("t.data = a tensor of another shape or dtype: make a new tensor")
        t.lazy_buffer, t.lazy_path, t.lazy_cached = new.lazy_buffer, new.lazy_path, (-1, None)

    def tensor(self, data: Any, *, dtype: Any = None, **kwargs: Any) -> Tensor:
        """Rule for torch.tensor([t1, t2, 0.5]): it stacks instead of asking for each number."""
        leaves = found(data, (Lazy, bool, int, float)) if isinstance(data, (list, tuple)) else []
        lazy = [x for x in leaves if isinstance(x, Lazy)]
        if not lazy or any(x.dim() for x in lazy):
            return torch.tensor(data, dtype=dtype, **kwargs)
        dtypes = [x.dtype if isinstance(x, Lazy) else torch.tensor(x).dtype for x in leaves]
        wanted = dtype or reduce(torch.promote_types, dtypes)
        if not is_inexact(wanted) and any(is_inexact(x.dtype) for x in lazy):
            raise TypeError("only integer tensors of a single element can be converted to an index")

        def build(x: Any) -> Tensor:
            if isinstance(x, (list, tuple)):
                return torch.stack([build(y) for y in x])
            return (x if isinstance(x, Lazy) else torch.tensor(x)).detach().to(wanted)

        built = build(data).to(kwargs.get("device") or "cpu")
        return built.requires_grad_(kwargs.get("requires_grad", False))

    def as_tensor(self, data: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        """Rule for as_tensor and asarray, which share memory where the dtype stays."""
        if isinstance(data, np.ndarray) and not kwargs.get("copy"):
            tensor, device = self.from_numpy(data), kwargs.get("device") or "cpu"
            return tensor.to(device, dtype or tensor.dtype)
        if isinstance(data, (list, tuple)):
            return self.tensor(data, dtype=dtype, **kwargs)
        return torch.as_tensor(data, dtype=dtype, **kwargs)
