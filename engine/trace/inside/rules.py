"""Ops for which the lazy mode has a rule of its own."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..ops import CAST, RESHAPE, aten
from .lazy import LazyMode
from .memory import Lazy, meta_of
from .overlap import check_write


def all_true(mode: LazyMode, compare: Any, x: Tensor, *rest: Any, **kwargs: Any) -> bool:
    with mode:
        return bool(compare(x, *rest, **kwargs).all())


def equal(mode: LazyMode, x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and all_true(mode, torch.eq, x, y)


def allclose(mode: LazyMode, *args: Any, **kwargs: Any) -> bool:
    return all_true(mode, torch.isclose, *args, **kwargs)


def same_memory_size(mode: LazyMode, x: Tensor, y: Tensor) -> bool:
    sizes = [meta_of(t).untyped_storage().nbytes() // t.element_size() for t in (x, y)]
    return sizes[0] == sizes[1]


def is_same_size(mode: LazyMode, x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape


def number(mode: LazyMode, x: Tensor) -> Any:
    return mode.real(x).item()


def copy(mode: LazyMode, x: Tensor, **kwargs: Any) -> Lazy:
    """Rule for clone and casts: only a change of dtype is recorded. A vmap casts plain numbers too."""
    if not isinstance(x, Tensor):
        x = torch.scalar_tensor(x, dtype=torch.float64 if isinstance(x, float) else None)
    meta, value = mode.shape_of(CAST, (x,), kwargs), mode.read(x)
    if meta.dtype != x.dtype:
        value = mode.emit(CAST, (value,), {"dtype": meta.dtype})
    return mode.wrap(value, meta)


def unsafe_view(mode: LazyMode, x: Tensor, shape: Any) -> Lazy:
    meta = mode.shape_of(aten._unsafe_view.default, (x, shape), {})
    return mode.wrap(mode.emit(RESHAPE, (mode.read(x), list(meta.shape))), meta)


def parts(mode: LazyMode, x: Lazy, sizes: Any, dim: int = 0) -> list[Tensor]:
    """Rule for splits: the parts are slices, so that writes to them go back."""
    if isinstance(sizes, int):
        step = max(1, sizes)
        sizes = [min(step, x.shape[dim] - i) for i in range(0, x.shape[dim], step)]
    ends = np.cumsum(sizes).tolist()
    with mode:
        return [x.narrow(dim, end - n, n) for n, end in zip(sizes, ends, strict=True)]


def rows(mode: LazyMode, x: Lazy, dim: int = 0) -> list[Tensor]:
    with mode:
        return [x.select(dim, i) for i in range(x.shape[dim])]


def between(mode: LazyMode, start: Any, end: Any, *rest: Any, make: Any, **kwargs: Any) -> Any:
    """Rule for linspace and logspace with ends that are tensors: eager takes their numbers too."""
    start, end = (number(mode, x) if isinstance(x, Tensor) else x for x in (start, end))
    with mode:
        return make(start, end, *rest, **kwargs)


def check_errors(mode: LazyMode, info: Tensor, name: str, *, is_matrix: bool) -> None:
    """Raises, as eager does, if a matrix is singular or not positive definite."""
    with _disable_current_modes():
        aten._linalg_check_errors(mode.real(info), name, is_matrix=is_matrix)


def copied(mode: LazyMode, x: Lazy, source: Tensor, *_: Any) -> Lazy:
    """Rule for copy_."""
    check_write(aten.copy_.default, x, source)
    return mode.store(x, source)


def fill(mode: LazyMode, x: Lazy, number: Tensor) -> Lazy:
    """Rule for x[0] = 0, which arrives as a fill with a 0-dim tensor."""
    check_write(aten.fill_.Tensor, x, number)
    return mode.store(x, number)


def tossed(mode: LazyMode, x: Lazy, p: float = 0.5, **kwargs: Any) -> Lazy:
    """Rule for bernoulli_, whose form that writes nothing has no default for `p`."""
    return mode.mutate(aten.bernoulli_.float, (x, p), kwargs)


def where(mode: LazyMode, condition: Tensor, x: Tensor, y: Tensor) -> Any:
    """Rule for where, whose shape function takes no bytes for a condition, as eager does."""
    if condition.dtype is torch.uint8:
        with mode:
            condition = condition.bool()
    return mode.ordinary(aten.where.self, (condition, x, y), {})


def prelu(mode: LazyMode, x: Tensor, weight: Tensor) -> Tensor:
    with mode:
        return torch.where(x > 0, x, weight * x)


def safe_softmax(mode: LazyMode, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Rule for the softmax of an attention: a row that is masked as a whole gives zeros."""
    with mode:
        found = torch.softmax(x, dim, dtype=dtype)
        masked = (x == -math.inf).all(dim, keepdim=True)
        return torch.where(masked, torch.zeros_like(found), found)


def bce_with_logits(
    mode: LazyMode, x: Tensor, target: Tensor, weight: Any = None, pos_weight: Any = None,
    reduction: int = 1,
) -> Tensor:  # fmt: skip
    with mode:
        log_sigmoid = -torch.nn.functional.softplus(-x)
        scale = 1 if pos_weight is None else (pos_weight - 1) * target + 1
        loss = (1 - target) * x - scale * log_sigmoid
        loss = loss if weight is None else loss * weight
        return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


def euclidean(mode: LazyMode, x: Tensor, y: Tensor) -> Tensor:
    """Rule for the cdist of many rows, which torch makes of one product of matrices."""
    with mode:
        sizes = [t.pow(2).sum(-1, keepdim=True) for t in (x, y)]
        ones = [torch.ones_like(size) for size in sizes]
        left = torch.cat([x * -2, sizes[0], ones[0]], -1)
        right = torch.cat([y, ones[1], sizes[1]], -1)
        return (left @ right.mT).clamp_min(0).sqrt()


RULES: dict[Any, Any] = {
    aten._euclidean_dist.default: euclidean,
    aten._prelu_kernel.default: prelu,
    aten._safe_softmax.default: safe_softmax,
    aten.binary_cross_entropy_with_logits.default: bce_with_logits,
    aten.fill_.Tensor: fill,
    aten._local_scalar_dense.default: number,
    aten.bernoulli_.float: tossed,
    aten.where.self: where,
    aten.equal.default: equal,
    aten.is_same_size.default: is_same_size,
    aten._has_same_storage_numel.default: same_memory_size,
    aten.allclose.default: allclose,
    aten._linalg_check_errors.default: check_errors,
    aten.clone.default: copy,
    CAST: copy,
    aten._unsafe_view.default: unsafe_view,
    aten.copy_.default: copied,
    aten.index_put_.default: LazyMode.put,
    aten._index_put_impl_.default: LazyMode.put,
    aten.split.Tensor: parts,
    aten.split_with_sizes.default: parts,
    aten.unbind.int: rows,
    **{
        getattr(packet, ends): partial(between, make=make)
        for packet, make in ((aten.linspace, torch.linspace), (aten.logspace, torch.logspace))
        for ends in ("Tensor_Tensor", "Tensor_Scalar", "Scalar_Tensor")
    },
}
