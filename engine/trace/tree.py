"""Walks nested arguments: lists, tuples and dictionaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def mapped(change: Callable[[Any], Any], x: Any, kind: Any = Tensor) -> Any:
    """`x` with `change` applied to every `kind` in it. Tuples become lists."""
    if isinstance(x, kind):
        return change(x)
    if isinstance(x, (list, tuple)):
        return [mapped(change, y, kind) for y in x]
    if isinstance(x, dict):
        return {k: mapped(change, y, kind) for k, y in x.items()}
    return x


def found(x: Any, kind: Any) -> list[Any]:
    """A list of every `kind` in `x`, in order."""
    out: list[Any] = []
    mapped(out.append, x, kind)
    return out
