"""The C++ backend: runs stages on the tile VM.

Sums are made in 64 float lanes over 4 tiles of 512 elements, then in 64 double lanes over a block of
65536 elements, and blocks are added one after the other. So two runs give the same bits, for any number
of threads and on every instruction set. Whether an expression is cut into tiles flat or by rows depends
on that expression alone, so a statistic has the same bits whatever else is computed in the same pass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from ..execution.backend import Backend
from ..execution.moments import symmetric
from ..ir import Builder, KernelGraph
from ..stages import KernelPlan
from ..tensors import Slots, TensorSet
from .reductions import reduced
from .vm import TileVM

MOST_VECTORS = 9  # with 10 task vectors there are 65 sums, and a program has 64 reductions at most


@final
class CpuBackend(Backend):
    """Runs on the CPU. Raises BackendError where the C++ extension is missing.

    `num_threads` defaults to the number of cores that this process may use. `isa` names a build of
    the VM; "" takes the best that this processor runs. `fused=False` runs one instruction for each
    op: it gives the same bits, and is there to test the fused instructions.
    """

    name = "cpu"

    def __init__(self, num_threads: int | None = None, isa: str = "", fused: bool = True) -> None:
        self.vm = TileVM(num_threads or len(os.sched_getaffinity(0)), isa, fused)

    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        return self.apply_all(graph, [tensors], [slots], [out])[0]

    def apply_all(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        assert all(out.is_contiguous() for out in outs), "the output must be contiguous"
        bind, pairs = self.vm.bind, zip(sets, slots, strict=True)
        calls = [bind(graph, "merge", tensors, own) for tensors, own in pairs]
        return self.vm.apply(calls, outs)

    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        out = torch.empty(tensors.base.shape, dtype=torch.float32)
        self.vm.apply([self.vm.bind(graph, "update", tensors, slots)], [out])
        return out

    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return reduced(self.vm, graph, tensors, slots)

    def moments(self, tensors: TensorSet) -> Tensor:
        names = tuple(tensors.experts)
        if len(names) > MOST_VECTORS:
            return super().moments(tensors)
        call = self.vm.bind(vectors_graph(names), "moments", tensors, [])
        return symmetric(self.vm.reduce_all([call]), tensors.base.numel(), len(names) + 1)

    def prepare(self, plan: KernelPlan, tensors: TensorSet) -> None:
        """Do all that precedes the first tile of a plan without sweeps; the bench times it."""
        assert len(plan.stages) == 1, "a plan with sweeps reads the weights before its last pass"
        (slots,) = self.run_stages([plan], [tensors], [None])
        self.vm.bind(plan.stages[0].graph, "merge", tensors, slots)


@lru_cache(maxsize=8)
def vectors_graph(names: tuple[str, ...]) -> KernelGraph:
    """A graph whose outputs are the task vectors themselves."""
    builder = Builder()
    return builder.graph(*map(builder.input, names))
