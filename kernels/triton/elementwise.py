"""Runs element-wise passes over a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ir import KernelGraph
from .body import Kernel
from .codegen import SPECS, generate
from .launch import Batch, Launcher, chunks_of


def apply_kernel(kernel: Kernel, batch: Batch, outs: Sequence[Tensor]) -> Tensor:
    """Write each tensor's results to its output, without waiting for them.

    Returns int32 [tensors], 1 where a result is not finite.
    """
    flags = torch.zeros(len(outs), dtype=torch.int32, device=batch.device)
    addresses = [out.data_ptr() for out in outs]
    launch = Launcher.of(kernel, batch)
    for each in launch.tables(addresses, chunks_of(SPECS["apply"].chunk)):
        launch.run(each, flags)
    return flags


def floats(graph: KernelGraph, batch: Batch) -> list[Tensor]:
    """The graph's FULL output for each tensor: float32 in the tensor's shape, on the device."""
    outs = [torch.empty(s.base.shape, device=batch.device) for s in batch.sets]
    apply_kernel(generate(graph, "apply", batch.dtypes, merged=False), batch, outs)
    return outs
