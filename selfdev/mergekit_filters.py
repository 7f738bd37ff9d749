"""Reads weights of a mergekit configuration that are 0 but for some tensors, as `export --mergekit` writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .mergekit_methods import Source

ALL = "all"


def without_filters(sources: Sequence[Source]) -> tuple[list[Source], str]:
    """Return the models with a plain weight each, and which tensors are merged, as --include takes it.

    Where the filters are of another kind, or not the same for all models, they stay: one set of
    parameters serves all tensors.
    """
    found = [filtered(source.parameters.get("weight")) for source in sources]
    if not found or None in found or len({parts for parts, _ in filter(None, found)}) != 1:
        return list(sources), ALL
    known = [one for one in found if one]
    plain = [
        replace(source, parameters={**source.parameters, "weight": weight})
        for source, (_, weight) in zip(sources, known, strict=True)
    ]
    return plain, "|".join(map(re.escape, known[0][0]))


def filtered(weight: object) -> tuple[tuple[str, ...], object] | None:
    """Return (parts of names, their one weight) of [{filter, value}, ..., {value: 0}]; else None."""
    if not isinstance(weight, list) or len(weight) < 2 or weight[-1] != {"value": 0}:
        return None
    parts, values = [], []
    for one in weight[:-1]:
        if not isinstance(one, dict) or set(one) != {"filter", "value"}:
            return None
        parts.append(one["filter"])
        values.append(one["value"])
    # mergekit takes "*" for any name.
    named = all(isinstance(part, str) and part.strip("*") for part in parts)
    alike = all(value == values[0] for value in values)
    return (tuple(parts), values[0]) if named and alike else None
