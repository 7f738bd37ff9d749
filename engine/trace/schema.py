"""Bounds on a node's arguments by the types in its overload's schema: kind, size, known words.

The child checks first, because it knows the program's line, and the verifier again, before torch sees
an argument. A tensor is a Node there and a Ref here, so whatever is not plain data counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from .bounds import MAX_ARGUMENTS, MAX_INT, MAX_LIST

Check = Callable[[Any], bool]
PLAIN = (bool, int, float, complex, str, torch.dtype, list, tuple, dict, type(None))
STRINGS = frozenset(
    """
    none tanh floor trunc linear lower higher midpoint nearest fro nuc reduced complete r L U
    sum prod mean amax amin add multiply left right gels gelsy gelsd gelss
    gesvd gesvdj gesvda
    """.split()
)
# Ends of slices may be the largest integers: they mean the end of an axis.
FREE_INTEGERS = ("start", "end")
LONG_LISTS = ("split_sizes",)


def is_tensor(x: Any) -> bool:
    """Tell whether it is a tensor, or a number in place of one, as in mul.Tensor(x, 0.5)."""
    return not isinstance(x, PLAIN) or is_scalar(x)


def is_scalar(x: Any) -> bool:
    if type(x) is int:
        return -(1 << 63) <= x < 1 << 64
    return isinstance(x, (bool, float, complex))


def is_float(x: Any) -> bool:
    return isinstance(x, float) or is_long(x)


def is_int(x: Any) -> bool:
    return type(x) is int and -MAX_INT <= x <= MAX_INT


def is_long(x: Any) -> bool:
    return type(x) is int and -(1 << 63) <= x < 1 << 63


KINDS: dict[str, Check] = {
    "Tensor": is_tensor,
    "number": is_scalar,
    "float": is_float,
    "int": is_int,
    "SymInt": is_int,
    "bool": lambda x: isinstance(x, bool),
    "str": lambda x: isinstance(x, str) and x in STRINGS,
    "ScalarType": lambda x: isinstance(x, torch.dtype),
}


def check_of(kind: str, name: str) -> Check:
    """Return the check of an argument, by its type in the schema. Unknown types are refused."""
    if kind.startswith("Optional["):
        inner = check_of(kind[9:-1], name)
        return lambda x: x is None or inner(x)
    if kind.startswith("List["):
        each, most = check_of(kind[5:-1], name), MAX_LIST
        if "Tensor" in kind or name in LONG_LISTS:
            most = MAX_ARGUMENTS
        return lambda x: isinstance(x, (list, tuple)) and len(x) <= most and all(map(each, x))
    if kind in ("int", "SymInt") and name in FREE_INTEGERS:
        return is_long
    return KINDS.get(kind, lambda x: False)


@cache
def checks(overload: Any) -> tuple[tuple[tuple[str, Check], ...], Mapping[str, Check]]:
    """Return name and check of each argument: first those by position, then all by name."""
    arguments = overload._schema.arguments
    named = {a.name: check_of(str(a.real_type), a.name) for a in arguments}
    return tuple((a.name, named[a.name]) for a in arguments if not a.kwarg_only), named


@cache
def required(overload: Any) -> frozenset[str]:
    """Return the names of the arguments that have no default."""
    arguments = overload._schema.arguments
    return frozenset(a.name for a in arguments if not a.has_default_value())


def argument_fault(overload: Any, args: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Say why an overload is not given these arguments, or None. `draw` is not looked at."""
    by_position, by_name = checks(overload)
    if len(args) > len(by_position):
        return f"{overload} with {len(args)} arguments"
    for (name, check), x in zip(by_position, args, strict=False):
        if not check(x):
            return f"{overload} with {name} of {words(x)}"
    given = {name for (name, _), _ in zip(by_position, args, strict=False)} | set(kwargs)
    if lacking := required(overload) - given:
        return f"{overload} without {', '.join(sorted(lacking))}"
    for name, x in kwargs.items():
        if name != "draw" and not by_name.get(name, lambda x: False)(x):
            return f"{overload} with {name[:40]} of {words(x)}"
    return None


def words(x: Any) -> str:
    """Say in a few words what was refused. A huge integer has too many digits to print."""
    if isinstance(x, (list, tuple)):
        return f"{len(x)} entries: {', '.join(map(words, x[:9]))}"
    if isinstance(x, int) and not is_scalar(x):
        return "a huge integer"
    return repr(x[:40] if isinstance(x, str) else x) if isinstance(x, PLAIN) else "a tensor"
