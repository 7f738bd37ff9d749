"""Python calls that read a tensor's storage, unseen by a dispatcher: numpy, tolist, print, data."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from ..tree import found
from .lazy import Lazy, LazyMode
from .recorder import Unsupported


class Surface(TorchFunctionMode):
    """Gives some functions a rule for lazy tensors, by a table. All others pass."""

    def __init__(self, mode: LazyMode) -> None:
        super().__init__()
        self.mode = mode
        self.rules = {
            Tensor.numpy: self.array,
            Tensor.__array__: self.as_array,
            Tensor.tolist: lambda t: self.array(t).tolist(),
            Tensor.__repr__: self.text,
            Tensor.__format__: self.formatted,
            Tensor.__deepcopy__: lambda t, memo: memo.setdefault(id(t), t.clone()),
            Tensor.__reduce_ex__: self.refuse_pickle,
            Tensor.data.__set__: self.rebind,  # type: ignore[attr-defined]
            torch.tensor: self.tensor,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.rules.get(func, func)(*args, **(kwargs or {}))

    def array(self, t: Tensor, **_: Any) -> np.ndarray:
        """Rule for numpy(): the array shares the tensor's memory, later reads look for writes."""
        with _disable_current_modes():
            array = self.mode.real(t).numpy().copy()
        if isinstance(t, Lazy):
            t.buffer.shared.append((t, array, array.copy()))
        return array

    def as_array(self, t: Tensor, dtype: Any = None) -> np.ndarray:
        array = self.array(t)
        return array if dtype is None else array.astype(dtype)

    def text(self, t: Tensor, **_: Any) -> str:
        """Rule for repr. The numbers of a large tensor are never asked for."""
        if isinstance(t, Lazy) and not self.mode.small(t.meta):
            return f"tensor(..., size={tuple(t.shape)})"
        with _disable_current_modes():
            return repr(self.mode.real(t))

    def formatted(self, t: Tensor, spec: str) -> str:
        return format(self.text(t) if t.dim() else t.item(), spec)

    def refuse_pickle(self, t: Tensor, *_: Any) -> Any:
        raise PermissionError("pickling and torch.save are not allowed here")

    def rebind(self, t: Lazy, new: Lazy) -> None:
        if t.shape != new.shape or t.dtype != new.dtype:
            raise Unsupported("t.data = a tensor of another shape or dtype: make a new tensor")
        t.buffer, t.path, t.cached = new.buffer, new.path, (-1, None)

    def tensor(self, data: Any, *, dtype: Any = None, **kwargs: Any) -> Tensor:
        """Rule for torch.tensor([t1, t2, 0.5]): it stacks instead of asking for each number."""
        leaves = found(data, (Lazy, bool, int, float)) if isinstance(data, (list, tuple)) else []
        lazy = [x for x in leaves if isinstance(x, Lazy)]
        if not lazy or any(x.dim() for x in lazy):
            return torch.tensor(data, dtype=dtype, **kwargs)
        dtypes = [x.dtype if isinstance(x, Lazy) else torch.tensor(x).dtype for x in leaves]
        wanted = dtype or reduce(torch.promote_types, dtypes)

        def build(x: Any) -> Tensor:
            if isinstance(x, (list, tuple)):
                return torch.stack([build(y) for y in x])
            return (x if isinstance(x, Lazy) else torch.tensor(x)).to(wanted)

        return build(data)
