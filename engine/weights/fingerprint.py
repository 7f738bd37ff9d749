"""Names for weights: equal bits, equal fingerprint, whether on disk, just merged or live in an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from .checkpoint import Checkpoint


@dataclass(frozen=True)
class TensorPrint:
    """The name of one checkpoint tensor's bits."""

    dtype: str  # as torch names it: bfloat16
    shape: tuple[int, ...]
    digest: str

    @staticmethod
    def of(tensor: Tensor) -> TensorPrint:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorPrint(dtype, tuple(tensor.shape), tensor_digest(tensor))


def new_digest() -> xxhash.xxh3_128:
    """A digest for bytes that come in pieces; it ends as that of `tensor_digest`."""
    return xxhash.xxh3_128()


def tensor_digest(tensor: Tensor) -> str:
    """XXH3-128 of the tensor's bytes in C order, 32 hex digits.

    A checksum against mistakes, not against forgers, at the speed of memory: it is taken of live
    weights after every swap.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return xxhash.xxh3_128_hexdigest(memoryview(flat.numpy()))  # pyright: ignore[reportArgumentType]


def weights_fingerprint(prints: Mapping[str, TensorPrint]) -> str:
    """Name all tensors together, by sorted name; 16 hex digits."""
    total = hashlib.sha256()
    for name in sorted(prints):
        one = prints[name]
        total.update(f"{name} {one.dtype} {list(one.shape)} {one.digest}\n".encode())
    return total.hexdigest()[:16]


def folder_fingerprint(folder: str | Path) -> str:
    """Name the safetensors weights in a folder; 16 hex digits."""
    checkpoint = Checkpoint.open(str(folder))
    return weights_fingerprint({n: TensorPrint.of(checkpoint.tensor(n)) for n in checkpoint.names})
