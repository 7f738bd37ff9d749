"""Fingerprints of weights: weights with equal bits have equal fingerprints.

It does not matter whether the weights are on disk, just merged, or live in an engine. Live weights
are read where they are: those on a GPU are not copied to the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernels.cpu.digest import Digest, memory_digest
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

# Says which digest a fingerprint is made of (kernels/digest.py). Those of earlier versions (XXH3) have
# no prefix: they are shown as they are, and compared with nothing.
PREFIX = "nh-"


@dataclass(frozen=True)
class TensorPrint:
    """The dtype, shape and digest of one checkpoint tensor; equal for equal bits."""

    dtype: str  # torch's name, such as bfloat16
    shape: tuple[int, ...]
    digest: str  # 32 hex digits

    @staticmethod
    def of(tensor: Tensor) -> TensorPrint:
        return tensor_prints([tensor])[0]


def tensor_prints(tensors: Sequence[Tensor], num_threads: int = 1) -> list[TensorPrint]:
    """Return the prints of tensors that are all on one device; on a GPU by one launch.

    `num_threads` are used on the CPU.
    """
    if tensors and tensors[0].is_cuda:
        from ...kernels.triton.digest import digests

        found = digests(tensors)
    else:
        found = [tensor_digest(tensor, num_threads) for tensor in tensors]
    names = (str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    shapes = (tuple(tensor.shape) for tensor in tensors)
    return [TensorPrint(*each) for each in zip(names, shapes, found, strict=True)]


def new_digest() -> Digest:
    """Start a digest of bytes that come in pieces; it ends equal to `tensor_digest` of them."""
    return Digest()


def tensor_digest(tensor: Tensor, num_threads: int = 1) -> str:
    """Return the digest of a tensor's bytes in C order, as 32 hex digits, by the CPU.

    It is a checksum against mistakes, not against forgers. It runs at the speed of memory, which
    matters because it is taken of the live weights after every swap.
    """
    whole = tensor.detach().cpu().contiguous()
    return memory_digest(whole.data_ptr(), whole.nbytes, num_threads)


def weights_fingerprint(prints: Mapping[str, TensorPrint]) -> str:
    """Return one fingerprint of all these tensors, sorted by name: PREFIX and 16 hex digits."""
    total = hashlib.sha256()
    for name in sorted(prints):
        one = prints[name]
        total.update(f"{name} {one.dtype} {list(one.shape)} {one.digest}\n".encode())
    return PREFIX + total.hexdigest()[:16]


def is_comparable(fingerprint: str) -> bool:
    """Tell whether this version computes such fingerprints, so that it can compare one."""
    return fingerprint.startswith(PREFIX)


def folder_fingerprint(folder: str | Path) -> str:
    """Return the fingerprint of the safetensors weights in a folder.

    It reads all of them. UsageError where the folder is not a readable checkpoint.
    """
    checkpoint = Checkpoint.open(str(folder))
    return weights_fingerprint({n: TensorPrint.of(checkpoint.tensor(n)) for n in checkpoint.names})
