"""All operations that lower to kernels. A key is a base name, or the name of one overload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rules import (
    bits,
    composites,
    draws,
    elementwise,
    formulas,
    gathers,
    gradients,
    masks,
    positions,
    reductions,
    strides,
    views,
)
from .rules import sorting as order

RULES: dict[str, Callable[..., Any]] = {
    **elementwise.RULES,
    **bits.RULES,
    **views.RULES,
    **strides.RULES,
    **masks.RULES,
    **gathers.RULES,
    **positions.RULES,
    **reductions.RULES,
    **order.RULES,
    **formulas.RULES,
    **composites.RULES,
    **draws.RULES,
    **gradients.RULES,
}
