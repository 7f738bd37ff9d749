"""What eager torch refuses and shape functions accept: a small rehearsal on real tensors finds it.

Kernels lack some dtypes, some options are for other devices only, and reductions refuse tensors
without elements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..ops import LAYOUT
from ..tree import found, mapped

USUAL = (torch.float32, torch.float64)
# Other errors are about numbers or sizes, which the rehearsal has invented.
REFUSALS = re.compile(
    r"not implemented for|only support|[Uu]nsupported dtype|not supported|does not support"
    r"|without overflow|same (scalar |d)types?\b|dtypes match|expected (scalar type|dtype)"
    r"|Expected self\.dtype|ZeroDivisionError"
)
# Operators that take whole numbers alone.
BITWISE = re.compile(r"aten\.(bitwise_|__[ilr]*(and|or|xor|shift)__)")
MOST_ELEMENTS = 4096
_outcomes: dict[Any, BaseException | None] = {}


def rehearse(func: Any, args: Any, kwargs: Any) -> None:
    """Raises what eager torch raises for arguments of this kind."""
    # A draw would move the program's generator.
    if func.is_view or torch.Tag.nondeterministic_seeded in func.tags:
        return
    bitwise = is_bitwise(func)
    if not kwargs and not bitwise and are_usual(args):
        return
    tensors = found((args, kwargs), Tensor)
    kwargs = {k: v for k, v in kwargs.items() if k not in LAYOUT}
    if any(t.numel() == 0 for t in tensors):
        if sum(t.numel() for t in tensors) <= MOST_ELEMENTS:
            attempt(func, args, kwargs, lambda t: t.shape)
        return
    plain = (*args, *kwargs.values())
    words = [x for x in plain if is_word(x)]
    dtypes = [*(t.dtype for t in tensors), *(x for x in words if isinstance(x, torch.dtype))]
    # Zero is told apart, since whole numbers are not divided by it.
    far = [x for x in plain if is_number(x) and (x == 0 or is_far(x, dtypes))]
    usual = set(dtypes) <= {torch.float32} or set(dtypes) <= {torch.float64}
    if not words and not any(far) and not bitwise and usual:
        return
    key = (func, *(t.dtype for t in tensors), *words, *far)
    if key not in _outcomes:
        _outcomes[key] = refusal(func, args, kwargs)
    if (error := _outcomes[key]) is not None:
        raise error.with_traceback(None)


@cache
def is_bitwise(func: Any) -> bool:
    return BITWISE.match(str(func)) is not None


def are_usual(args: Sequence[Any]) -> bool:
    """Tells whether arguments need no rehearsal. Most of them do not, and this is quick."""
    first = None
    for x in args:
        if isinstance(x, Tensor):
            first = first or x.dtype
            if x.dtype is not first or first not in USUAL or x.numel() == 0:
                return False
        elif isinstance(x, list | tuple | str) or (is_number(x) and is_far(x)):
            return False
    return True


def is_word(x: Any) -> bool:
    return isinstance(x, str) or (isinstance(x, torch.dtype) and x not in USUAL)


def is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def is_far(x: float, dtypes: Sequence[torch.dtype] = ()) -> bool:
    """Tells whether a finite number is beyond the range of one of these dtypes, or of float32."""
    return abs(x) > min(map(largest, (*dtypes, torch.float32))) and abs(x) != inf


def largest(dtype: torch.dtype) -> float:
    """The largest number of a dtype; infinity for truth values, which take any."""
    if dtype == torch.bool or dtype.is_complex:
        return inf
    return (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max


def refusal(func: Any, args: Any, kwargs: Any) -> BaseException | None:
    """The error of a call on tensors of at most 2 in each direction, if it is about their kind."""
    try:
        attempt(func, args, kwargs, lambda t: [min(n, 2) for n in t.shape])
    except Exception as error:
        return error if REFUSALS.search(str(error)) else None
    return None


def attempt(func: Any, args: Any, kwargs: Any, shape: Any) -> None:
    def real(t: Tensor) -> Tensor:
        return torch.ones(shape(t), dtype=t.dtype)

    with _disable_current_modes(), torch.no_grad():
        func(*mapped(real, args), **mapped(real, kwargs))


def check_masks(x: Tensor, indices: Any = ()) -> None:
    """Raises eager's error for x[mask] where the mask has another shape than the directions it covers."""
    at = 0
    for index in indices if isinstance(indices, list | tuple) else ():
        if index is None or index.dtype is not torch.bool:
            at += 1
            continue
        for i, size in enumerate(index.shape):
            if at >= x.dim() or size != x.shape[at]:
                raise IndexError(
                    f"The shape of the mask {list(index.shape)} at index {i} does not match the shape "
                    f"of the indexed tensor {list(x.shape)} at index {at}"
                )
            at += 1


def check_put(x: Tensor, indices: Sequence[Any], values: Tensor) -> None:
    """Raises eager's error for x[indices] = values of another dtype. One value under a mask is a fill, and cast."""
    is_fill = len(indices) == 1 and indices[0].dtype is torch.bool and values.numel() == 1
    if values.dtype != x.dtype and not is_fill:
        into, source = (str(t.dtype).removeprefix("torch.") for t in (x, values))
        raise RuntimeError(
            "Index put requires the source and destination dtypes match, got "
            f"{into} for the destination and {source} for the source."
        )
