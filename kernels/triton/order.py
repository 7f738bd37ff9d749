"""Exact k-th values on the device: three passes over the bits of the values, from the highest.

A pass counts, for each tensor and rank, how often each value of the next bits occurs among the elements
that begin with the bits known so far; which of them holds the rank follows. Integers, so the result
depends on no order. Ranks of one expression share the first pass's counts and all reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ir import Graph
from .codegen import DIGITS, SPECS, generate

if TYPE_CHECKING:
    from .launch import Batch, TritonBackend

SIGN = 1 << 31


def kth_values(
    backend: TritonBackend, graph: Graph, batch: Batch, ranks: Sequence[int]
) -> list[list[Tensor]]:
    """[] float32 of each of the batch's tensors and the graph's outputs (KTH nodes of one value)."""
    from .launch import floats_of

    shape = (len(batch.sets), len(ranks))
    prefix = torch.zeros(shape, dtype=torch.int64, device=backend.device)
    left = torch.tensor(ranks, device=backend.device).expand(shape).clone()
    for shift, bits in DIGITS:
        first = Graph(graph.nodes, graph.outputs[:1]) if shift + bits == 32 else graph
        counts = count_digits(backend, first, batch, prefix, shift, bits)
        prefix, left = next_digit(counts, prefix, left, bits)
    keys = (prefix - SIGN).to(torch.int32).cpu()
    return [[floats_of(key) for key in row] for row in keys]


def count_digits(
    backend: TritonBackend, graph: Graph, batch: Batch, prefix: Tensor, shift: int, bits: int
) -> Tensor:
    """[tensors, ranks, 1 << bits] counts."""
    from .launch import chunks_of

    shape = (len(batch.sets), len(graph.outputs), 1 << bits)
    counts = torch.zeros(shape, dtype=torch.int32, device=backend.device)
    launch = backend.launcher(generate(graph, "digits", batch.dtypes), batch)
    outs = [one.data_ptr() for one in counts]
    prefixes = prefix[:, : shape[1]].to(torch.int32).contiguous()
    for each in launch.tables(outs, chunks_of(SPECS["digits"].chunk)):
        launch.run(each, prefixes, SHIFT=shift, BITS=bits)
    return counts


def next_digit(counts: Tensor, prefix: Tensor, left: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The prefixes with one more digit, and the ranks among what begins with them."""
    total = counts.expand(*prefix.shape, counts.shape[-1]).cumsum(-1)
    digit = (total < left[..., None]).sum(-1, keepdim=True)
    below = total.gather(-1, (digit - 1).clamp(min=0)).squeeze(-1)
    digit = digit.squeeze(-1)
    return (prefix << bits) | digit, left - torch.where(digit > 0, below, 0)
