"""What eager torch refuses and shape functions accept: a small rehearsal on real tensors finds it.

Kernels lack some dtypes, some options are for other devices only, and reductions refuse tensors
without elements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    r"not implemented for|only supported|[Uu]nsupported dtype|not supported|does not support"
    r"|without overflow"
)
MOST_ELEMENTS = 4096
_outcomes: dict[Any, BaseException | None] = {}


def rehearse(func: Any, args: Any, kwargs: Any) -> None:
    """Raises what eager torch raises for arguments of this kind."""
    if not kwargs and all(map(is_usual, args)):
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
    far = [x for x in plain if is_number(x) and is_far(x, dtypes)]
    if not words and not far and all(t.dtype in USUAL for t in tensors):
        return
    key = (func, *(t.dtype for t in tensors), *words, *far)
    if key not in _outcomes:
        _outcomes[key] = refusal(func, args, kwargs)
    if (error := _outcomes[key]) is not None:
        raise error.with_traceback(None)


def is_usual(x: Any) -> bool:
    """Tells whether an argument needs no rehearsal. Most of them do not, and this is quick."""
    if isinstance(x, Tensor):
        return x.dtype in USUAL and x.numel() > 0
    return not isinstance(x, list | tuple | str) and not (is_number(x) and is_far(x))


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
