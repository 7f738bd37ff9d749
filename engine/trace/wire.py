"""Small tensors as plain data, bit for bit: base64 of their bytes."""

from __future__ import annotations

import base64
from typing import Any

import torch

# A trace replaces the function of this name in torch (inside/surface.py).
from torch import frombuffer

# The names of all dtypes that a graph may have.
DTYPES = {
    *("float32", "float64", "float16", "bfloat16", "bool"),
    *("uint8", "int8", "int16", "int32", "int64", "complex64", "complex128"),
}


def dtype_name(dtype: torch.dtype | None) -> str:
    """The name of a dtype: "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def pack_tensor(tensor: torch.Tensor) -> dict[str, Any]:
    """A small tensor as plain data."""
    # Only a tensor with a stride of 1 can be viewed as bytes.
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.copy_(tensor.detach().reshape(-1))
    data = flat.view(torch.uint8).numpy().tobytes()
    text = base64.b64encode(data).decode()
    return {"dtype": dtype_name(flat.dtype), "shape": list(tensor.shape), "data": text}


def unpack_tensor(data: dict[str, Any]) -> torch.Tensor:
    """The tensor that `pack_tensor` packed."""
    raw, dtype = bytearray(base64.b64decode(data["data"])), getattr(torch, data["dtype"])
    if not raw:
        return torch.empty(data["shape"], dtype=dtype)
    return frombuffer(raw, dtype=dtype).reshape(data["shape"])
