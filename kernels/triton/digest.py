"""Digests of tensors on the GPU (kernels/digest.py): one launch for all of them, one copy to the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..digest import CHUNK_BYTES, HALF, ROW_DRAW, ROWS, TOTALS, digits, keys
from .launch import import_triton
from .table import chunk_map, to_device

SIZES = {"CHUNKS": 8}  # chunks of a program
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def digests(tensors: Sequence[Tensor]) -> list[str]:
    """Return the digest of each tensor: 32 hex digits of its bytes in C order.

    The tensors are on one GPU; on the CPU, the kernel runs in Triton's interpreter.
    """
    if not tensors:
        return []
    device = tensors[0].device
    flat = [bytes_of(tensor) for tensor in tensors]
    totals = torch.zeros(len(tensors), TOTALS, dtype=torch.int64, device=device)
    # They own the memory that the table's addresses point to.
    pieces = [(number, *piece) for number, data in enumerate(flat) for piece in pieces_of(data)]
    if pieces:
        launch(pieces, totals)
    found = zip(totals.tolist(), flat, strict=True)
    return [digits([total + data.numel() for total in pair]) for pair, data in found]


def launch(pieces: Sequence[tuple[int, int, Tensor]], totals: Tensor) -> None:
    """Add pieces to the totals, and do not wait: (tensor's number, first chunk's number, bytes)."""
    chunks = [data.numel() // CHUNK_BYTES for _, _, data in pieces]
    programs = [-(-count // SIZES["CHUNKS"]) for count in chunks]
    starts = accumulate(programs, initial=0)
    rows = [
        (data.data_ptr(), count, first, start, number)
        for (number, first, data), count, start in zip(pieces, chunks, starts, strict=False)
    ]
    table = to_device(rows, torch.int64, totals.device)
    block_row = chunk_map(tuple(programs), totals.device)
    arguments = table, block_row, row_keys(totals.device), totals
    kernel()[(len(block_row),)](*arguments, **SIZES, **OPTIONS)


@lru_cache(maxsize=16)
def row_keys(device: torch.device) -> Tensor:
    """Return the pairs of keys of each row for both totals: int64 [TOTALS, ROWS]."""
    pairs = keys(ROW_DRAW, TOTALS, ROWS, 2)
    return torch.from_numpy((pairs[..., 0] | pairs[..., 1] << HALF).view(np.int64)).to(device)


def kernel() -> Any:
    """Return the kernel. It is decorated here at the first call, when it is known whether Triton interprets."""
    import_triton(interpret=not torch.cuda.is_available())
    from .digest_device import digest_chunks

    return digest_chunks


def bytes_of(tensor: Tensor) -> Tensor:
    """Return the bytes in C order, uint8 [bytes], at an address that 16 divides."""
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return data.clone() if data.data_ptr() % 16 else data


def pieces_of(data: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the whole chunks, then the padded rest: the number of its first chunk, and the bytes."""
    whole, rest = divmod(data.numel(), CHUNK_BYTES)
    if whole:
        yield 0, data[: whole * CHUNK_BYTES]
    if rest:
        last = torch.zeros(CHUNK_BYTES, dtype=torch.uint8, device=data.device)
        last[:rest] = data[whole * CHUNK_BYTES :]
        yield whole, last
