"""The Triton backend: generated element-wise passes, launched per tensor.

In this version the element-wise pass is a generated kernel; sweeps (reductions, order statistics)
are computed by torch on the same device, on whole tensors, sums in float64. Without a GPU the
kernels run in Triton's interpreter, on the CPU: right, slow, and said so.
"""

from __future__ import annotations

import os
import sys
from typing import Any, final

import torch
from torch import Tensor

from ..backend import Backend, BackendError, Slots, TensorSet
from ..ir import Graph
from ..reference import evaluate
from .cache import load_source
from .codegen import BLOCK, ITERS, NUM_WARPS, PRELUDE, Kernel, generate

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
ALIGNMENT_BYTES = 16


def import_triton(interpret: bool) -> Any:
    """triton, in the interpreter or not; that is decided when it is first imported."""
    if interpret and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except ImportError as error:
        raise BackendError(
            f"triton is not installed ({error}): pip install 'selfdev-engine[triton]'"
        ) from None
    if interpret and not triton.knobs.runtime.interpret:  # pyright: ignore[reportAttributeAccessIssue]
        raise BackendError("without a GPU, triton must not be imported before this backend is made")
    return triton


@final
class TritonBackend(Backend):
    """On the GPU, or interpreted."""

    name = "triton"

    def __init__(self) -> None:
        self.interpreted = not torch.cuda.is_available()
        import_triton(self.interpreted)
        self.device = torch.device("cpu" if self.interpreted else "cuda")
        if self.interpreted:
            print("no GPU: --backend triton runs in Triton's interpreter, slowly", file=sys.stderr)

    def sweep(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        inputs = {name: self._vector(tensors, name) for name in tensors.experts}
        on_device = [None if slot is None else slot.to(self.device) for slot in slots]
        values = evaluate(graph, inputs, tensors.shape2d, on_device, torch.float32)
        return [value.cpu() for value in values]

    def _vector(self, tensors: TensorSet, name: str) -> Tensor:
        base, expert = (t.to(self.device).float() for t in (tensors.base, tensors.experts[name]))
        return (expert - base).reshape(tensors.shape2d)

    def apply(self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        result = torch.empty_like(tensors.base, device=self.device)
        finite = self._launch(graph, tensors, slots, result, merged=True)
        out.copy_(result)
        return finite

    def expression(self, graph: Graph, tensors: TensorSet, slots: Slots) -> Tensor:
        result = torch.empty(tensors.base.shape, dtype=torch.float32, device=self.device)
        self._launch(graph, tensors, slots, result, merged=False)
        return result.cpu()

    def _launch(
        self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor, *, merged: bool
    ) -> bool:
        names = dict.fromkeys(n.attrs[0] for n in graph.nodes if n.op.value == "input")
        read = [tensors.base, *(tensors.experts[name] for name in names)]
        kernel = generate(graph, "apply", [NAMES[t.dtype] for t in read], merged)
        function = load_source(PRELUDE.format(interpret=self.interpreted) + kernel.source).apply
        pointers = [t.to(self.device) for t in read]
        vectors = [self._slot(slots, s) for s in (*kernel.rows, *kernel.cols)]
        params = self._params(kernel, slots)
        flag = torch.zeros(1, dtype=torch.int32, device=self.device)
        n, cols = tensors.base.numel(), tensors.shape2d[1]
        aligned = all(t.data_ptr() % ALIGNMENT_BYTES == 0 for t in (*pointers, out))
        cut = n // 8 * 8 if aligned else 0
        for vector, first, count in ((True, 0, cut), (False, cut, n - cut)):
            if count:
                grid = (-(-count // (BLOCK * ITERS)),)
                arguments = (*pointers, *vectors, params, out, flag, first, n, cols)
                sizes = {"BLOCK": BLOCK, "ITERS": ITERS, "VECTOR": vector}
                function[grid](*arguments, **sizes, num_warps=NUM_WARPS, enable_fp_fusion=False)
        return not bool(flag.item())

    def _params(self, kernel: Kernel, slots: Slots) -> Tensor:
        numbers = [float(v) for s in kernel.scalars if (v := slots[s]) is not None] or [0.0]
        return torch.tensor(numbers, dtype=torch.float32, device=self.device)

    def _slot(self, slots: Slots, index: int) -> Tensor:
        value = slots[index]
        assert value is not None
        return value.to(self.device).float().contiguous()
