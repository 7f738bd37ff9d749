"""Fingerprints of weights: weights with equal bits have equal fingerprints.

It does not matter whether the weights are on disk, just merged, or live in an engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TensorPrint:
    """The dtype, shape and digest of one checkpoint tensor; equal for equal bits."""

    dtype: str  # torch's name, such as bfloat16
    shape: tuple[int, ...]
    digest: str  # 32 hex digits

    @staticmethod
    def of(tensor: Tensor) -> TensorPrint:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorPrint(dtype, tuple(tensor.shape), tensor_digest(tensor))


def new_digest() -> xxhash.xxh3_128:
    """Start a digest of bytes that come in pieces; it ends equal to `tensor_digest` of them."""
    return xxhash.xxh3_128()


def tensor_digest(tensor: Tensor) -> str:
    """Return the XXH3-128 of the tensor's bytes in C order, as 32 hex digits.

    It is a checksum against mistakes, not against forgers. It runs at the speed of memory, which
    matters because it is taken of the live weights after every swap.
    """
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return xxhash.xxh3_128_hexdigest(memoryview(flat.numpy()))  # pyright: ignore[reportArgumentType]


def weights_fingerprint(prints: Mapping[str, TensorPrint]) -> str:
    """Return one fingerprint of all these tensors, sorted by name, as 16 hex digits."""
    total = hashlib.sha256()
    for name in sorted(prints):
        one = prints[name]
        total.update(f"{name} {one.dtype} {list(one.shape)} {one.digest}\n".encode())
    return total.hexdigest()[:16]


def folder_fingerprint(folder: str | Path) -> str:
    """Return the fingerprint of the safetensors weights in a folder, as 16 hex digits.

    It reads all of them. UsageError where the folder is not a readable checkpoint.
    """
    checkpoint = Checkpoint.open(str(folder))
    return weights_fingerprint({n: TensorPrint.of(checkpoint.tensor(n)) for n in checkpoint.names})
