"""The float64 backend, against which every other is tested."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ..compiler.clock import check
from ..ir import KernelGraph
from ..reference import evaluate
from ..tensors import Slots, TensorSet
from .backend import Backend


@final
class ReferenceBackend(Backend):
    """Computes in float64 on whole tensors: slow, hungry for memory, and right by definition."""

    name = "reference"
    host_dtype = torch.float64

    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return self._evaluate(graph, tensors, slots)

    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        (update,) = self._evaluate(graph, tensors, slots)
        return update.expand(tensors.shape2d).float().reshape(tensors.base.shape).contiguous()

    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        (update,) = self._evaluate(graph, tensors, slots)
        merged = tensors.base.double() + update.expand(tensors.shape2d).reshape(out.shape)
        out.copy_(merged.to(out.dtype))
        return bool(out.isfinite().all())

    def _evaluate(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        inputs = {name: tensors.vector(name, torch.float64) for name in tensors.experts}
        return evaluate(graph, inputs, tensors.shape2d, slots, torch.float64, check)
