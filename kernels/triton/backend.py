"""The Triton backend: generated kernels, one launch for all tensors of a stage that share formats.

Sums are float32 within a chunk of 16,384 elements, and the chunks' partial results are added in float64
in a fixed order, so two runs give the same bits. All launches of a stage are under way before the first
is waited for. Without a GPU the kernels run in Triton's interpreter, on the CPU: the values are right,
and it is slow, which standard error says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from ..compiler.clock import check
from ..compiler.subgraphs import grouped, part
from ..execution.backend import Backend
from ..ir import KernelGraph, Space
from ..tensors import Slots, TensorSet
from .codegen import MOST_REDUCTIONS, generate, inputs_of, shared_kernel
from .elementwise import apply_kernel, floats
from .launch import Batch, import_triton
from .reductions import ranks, totals, vectors

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
MOST_ELEMENTS = 1 << 28  # elements of one `apply` launch: the next is prepared while it runs


@final
class TritonBackend(Backend):
    """Runs on the GPU, or in the interpreter. Raises BackendError where Triton is missing."""

    name = "triton"

    def __init__(self) -> None:
        self.interpreted = not torch.cuda.is_available()
        import_triton(self.interpreted)
        self.device = torch.device("cpu" if self.interpreted else "cuda")
        if self.interpreted:
            print("no GPU: --backend triton runs in Triton's interpreter, slowly", file=sys.stderr)

    # ---- what a backend does

    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        return self.apply_all(graph, [tensors], [slots], [out])[0]

    def apply_all(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        flags: dict[int, Tensor] = {}
        for batch in self.batches(graph, sets, slots):
            check()
            wanted = [outs[j] for j in batch.members]
            written = [out if self.takes(out) else self.empty_like(out) for out in wanted]
            kernel = generate(graph, "apply", batch.dtypes)
            flags |= dict(zip(batch.members, apply_kernel(kernel, batch, written), strict=True))
            for out, result in zip(wanted, written, strict=True):
                if out is not result:
                    out.copy_(result)
        raised = torch.stack([flags[j] for j in range(len(sets))]).tolist()
        return [not flag for flag in raised]

    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        (batch,) = self.batches(graph, [tensors], [slots])
        return floats(graph, batch)[0].cpu()

    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return self.sweep_all(graph, [tensors], [slots])[0]

    def sweep_all(
        self, graph: KernelGraph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> list[list[Tensor]]:
        found: list[dict[int, Tensor]] = [{} for _ in sets]
        kind = partial(shared_kernel, graph)
        for (space, ranked), outputs in grouped(graph, kind, MOST_REDUCTIONS):
            check()
            wanted = part(graph, outputs)
            run = ranks if ranked else totals if space is Space.SCALAR else vectors
            # Torch selects k-th values of rows and columns in a float32 copy, so one tensor at a time.
            most = 1 if ranked and space is not Space.SCALAR else None
            started = [
                (batch.members, run(wanted, batch))
                for batch in self.batches(wanted, sets, slots, most)
            ]
            for members, results in started:
                for j, values in zip(members, results(), strict=True):
                    found[j].update(zip(outputs, values, strict=True))
        return [[values[output] for output in graph.outputs] for values in found]

    def moments(self, tensors: TensorSet) -> Tensor:
        """Return the moments, which torch sums on the device."""
        return super().moments(self.on_device(tensors, list(tensors.experts)))

    # ---- which tensors share a launch

    def batches(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        most: int | None = MOST_ELEMENTS,
    ) -> Iterator[Batch]:
        """Group tensors into launches: of the same formats, and at most `most` elements together.

        A tensor that is not on the device is a batch of its own, and is copied only when that batch
        is asked for. So one fits where all do not.
        """
        groups: dict[Any, list[int]] = {}
        names, piece, elements = inputs_of(graph), 0, 0
        for j, tensors in enumerate(sets):
            read = [tensors.base, *(tensors.experts[name] for name in names)]
            elements += tensors.base.numel()
            if most is not None and elements > most:
                piece, elements = piece + 1, tensors.base.numel()
            alone = None if all(map(self.holds, read)) else j
            groups.setdefault((*(NAMES[t.dtype] for t in read), piece, alone), []).append(j)
        for (*dtypes, _, alone), members in groups.items():
            mine = [sets[j] if alone is None else self.on_device(sets[j], names) for j in members]
            numbers = tuple(slots[j] for j in members)
            yield Batch(tuple(members), tuple(dtypes), tuple(mine), numbers, self.device)

    def holds(self, tensor: Tensor) -> bool:
        return tensor.is_cuda or self.interpreted

    def takes(self, out: Tensor) -> bool:
        return self.holds(out) and out.is_contiguous()

    def on_device(self, tensors: TensorSet, names: Sequence[str]) -> TensorSet:
        experts = {name: tensors.experts[name].to(self.device) for name in names}
        return TensorSet(tensors.name, tensors.base.to(self.device), experts)

    def empty_like(self, out: Tensor) -> Tensor:
        return torch.empty(out.shape, dtype=out.dtype, device=self.device)
