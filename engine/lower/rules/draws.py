"""Random draws of the tensor's size: the same Philox numbers as in trace/replay.py.

A draw of a stack of tensors is one draw of the tensor per entry, numbered in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ....kernels import philox
from ....kernels.ir import Op, Space
from ...trace.graph import TraceNode
from ..number import Num, Number
from ..scope import Scope
from ..value import FLAT, Dim, Value
from .formulas import log1p, maximum


def numbers(scope: Scope, kind: str, seed: int, shape: tuple[int, ...]) -> Value:
    """Random numbers in the shape of the tensor, of the flat tensor, or of a stack of tensors."""
    own: tuple[Dim, ...] = scope.axes
    if shape == (scope.rows * scope.cols,) and len(own) == 2:
        shape, own = scope.shape, (FLAT,)
    head = shape[: len(shape) - len(scope.shape)]
    if shape[len(head) :] != scope.shape or math.prod(head) > 64:
        scope.fail(f"a draw of shape {shape}")
    made = [
        scope.emit(Op.RANDOM, attrs=(kind, seed, i), space=Space.FULL)
        for i in range(math.prod(head))
    ]
    cells = np.array(made, dtype=np.int64).reshape(head)
    return Value((*head, *own), cells, torch.float32)


def drawn(
    scope: Scope, kind: str, formula: Callable[..., Number], seed: int, shape: Any, dtype: Any,
    *operands: Any,
) -> Value:  # fmt: skip
    """Applies formula(number, operand, ...) with a new random number for each element."""

    def lowered(*cells: int) -> int:
        found = formula(*(Num(scope, cell) for cell in cells))
        assert isinstance(found, Num)
        return found.index

    fresh = numbers(scope, kind, seed, tuple(shape))
    return scope.pointwise(lowered, fresh, *(scope.lift(x) for x in operands), dtype=dtype)


def plain(kind: str) -> Callable[..., Value]:
    def rule(scope: Scope, node: TraceNode, *_: Any, draw: int, **__: Any) -> Value:
        return drawn(scope, kind, lambda n: n, draw, node.shape, node.dtype)

    return rule


def uniform(
    scope: Scope, node: TraceNode, x: Any, low: float = 0, high: float = 1, *, draw: int
) -> Value:
    def formula(n: Num) -> Num:
        return n * (high - low) + low

    return drawn(scope, "uniform", formula, draw, node.shape, node.dtype)


def normal_functional(
    scope: Scope, node: TraceNode, x: Any, mean: float = 0, std: float = 1, *, draw: int
) -> Value:
    return drawn(scope, "normal", lambda n: n * std + mean, draw, node.shape, node.dtype)


def normal(
    scope: Scope, node: TraceNode, mean: Any = 0, std: Any = 1, *_: Any, draw: int, **__: Any
) -> Value:
    def formula(n: Num, m: Num, s: Num) -> Num:
        return n * s + m

    return drawn(scope, "normal", formula, draw, node.shape, node.dtype, mean, std)


def bernoulli(scope: Scope, node: TraceNode, x: Value, p: Any = None, *, draw: int) -> Value:
    """Rule for 1 with the probability p, or with the probability x if there is no p."""
    chance = x if p is None else p
    return drawn(scope, "uniform", Num.below, draw, node.shape, node.dtype, chance)


def exponential(scope: Scope, node: TraceNode, x: Any, rate: float = 1, *, draw: int) -> Value:
    def formula(n: Num) -> Num:
        return -log1p(-maximum(n, philox.LEAST_UNIFORM)) / rate

    return drawn(scope, "uniform", formula, draw, node.shape, node.dtype)


def dropout(
    scope: Scope, node: TraceNode, x: Value, p: float, train: bool = True, *, draw: int
) -> list[Value]:
    """Rule for [the elements that are kept, scaled up; which are kept]."""
    shape = tuple(scope.length(d) for d in x.dims)
    keep = 1.0 - p if train else 1.0
    kept = drawn(scope, "uniform", lambda n: n.below(keep), draw, shape, torch.bool)
    scale = 1.0 / keep if keep else 0.0
    return [
        scope.pointwise(
            lambda n, k: (Num(scope, n) * Num(scope, k) * scale).index, x, kept, dtype=x.dtype
        ),
        kept,
    ]


RULES: dict[str, Callable[..., Any]] = {
    "aten.rand": plain("uniform"),
    "aten.rand_like": plain("uniform"),
    "aten.randn": plain("normal"),
    "aten.randn_like": plain("normal"),
    "aten.uniform": uniform,
    "aten.normal_functional": normal_functional,
    "aten.normal": normal,
    "aten.bernoulli": bernoulli,
    "aten.exponential": exponential,
    "aten.native_dropout": dropout,
}
