"""A node's arguments as plain data, in both directions.

A dictionary with one key stands for what JSON cannot say: {"n": node}, {"f": float},
{"z": complex}, {"t": dtype}, {"c": constant}.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import torch
from torch import Tensor

from ..errors import Rejected, Rejection, printable
from .bounds import MAX_ARGUMENT_DEPTH, MAX_ARGUMENTS, MAX_CONSTANT_ELEMENTS, MAX_RANK
from .graph import Ref
from .wire import DTYPES, dtype_name, unpack_tensor


def malformed(what: str) -> Rejected:
    """The error for data that no honest child sends."""
    return Rejected(Rejection("violation", printable(f"malformed graph: {what}")))


def packed(x: Any) -> Any:
    """An argument of a TraceNode as plain data."""
    if isinstance(x, Ref):
        return {"n": x.index}
    if isinstance(x, float):
        return {"f": x.hex()}
    if isinstance(x, complex):
        return {"z": [x.real.hex(), x.imag.hex()]}
    if isinstance(x, torch.dtype):
        return {"t": dtype_name(x)}
    if isinstance(x, tuple):
        return [packed(y) for y in x]
    assert x is None or isinstance(x, (bool, int, str)), f"{type(x).__name__} is no argument"
    return x


def unpacked(x: Any, num_nodes: int, depth: int = 0) -> Any:
    """The argument that plain data stands for. Raises Rejected.

    At depth 0 a list is all of a node's arguments and a dictionary its keyword arguments. A Ref
    must be to one of the first `num_nodes` nodes.
    """
    if depth > MAX_ARGUMENT_DEPTH:
        raise malformed("arguments nest too deeply")
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, list) and len(x) <= MAX_ARGUMENTS:
        return tuple(unpacked(y, num_nodes, depth + 1) for y in x)
    if isinstance(x, dict) and depth == 0:
        return {k: unpacked(v, num_nodes, 1) for k, v in x.items()}
    if isinstance(x, dict):
        return untagged(x, num_nodes)
    raise malformed(f"argument {type(x).__name__}")


def untagged(x: dict[str, Any], num_nodes: int) -> Any:
    """The value of a dictionary with one key. Raises Rejected, or ValueError for several keys."""
    ((tag, value),) = x.items()
    if tag == "n" and type(value) is int and 0 <= value < num_nodes:
        return Ref(value)
    if tag == "f" and isinstance(value, str):
        return float.fromhex(value)
    if tag == "z" and isinstance(value, list) and len(value) == 2:
        return complex(*map(float.fromhex, value))
    if tag == "t" and value in DTYPES:
        return getattr(torch, value)
    if tag == "c" and isinstance(value, dict):
        return constant(value)
    raise malformed(f"argument {str(x)[:80]}")


def constant(data: dict[str, Any]) -> Tensor:
    """A tensor with numbers, of bounded size. Raises Rejected."""
    shape, dtype = data["shape"], data["dtype"]
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise malformed("a constant of too many dimensions")
    # A tensor without elements may have a long axis.
    known = all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    count = math.prod(shape) if known else -1
    if not 0 <= count <= MAX_CONSTANT_ELEMENTS or dtype not in DTYPES:
        raise malformed(f"a constant of {str(shape)[:80]} {str(dtype)[:80]}")
    try:
        raw = base64.b64decode(data["data"], validate=True)
    except (binascii.Error, TypeError) as error:
        raise malformed(f"a constant's bytes: {error}") from None
    if len(raw) != count * getattr(torch, dtype).itemsize:
        raise malformed("a constant's length")
    try:
        return unpack_tensor(data)
    except RuntimeError as error:
        raise malformed(f"a constant's shape: {error}") from None
