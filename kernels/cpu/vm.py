"""The tile VM as Python sees it: encodes graphs, and calls the C++ entry points on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError
from ..ir import KernelGraph, Op
from ..tensors import Slots, TensorSet
from .encode import BF16, F16, F32, Code, Machine
from .purposes import encode

DTYPES = {torch.bfloat16: BF16, torch.float16: F16, torch.float32: F32}


def load_extension() -> Any:
    """The compiled module. Raises BackendError, which says how to get it, where it is missing."""
    try:
        from .. import _cpu  # pyright: ignore
    except ImportError as error:
        raise BackendError(
            f"the C++ extension is not there ({error}): pip install . with a C++17 compiler on PATH"
        ) from None
    return _cpu


@dataclass(slots=True)
class BoundCall:
    """One program bound to one tensor's memory.

    The native call holds bare addresses. This object owns the tensors behind them, so that they
    live as long as it does: reach the native call only through an object that is kept, as the
    methods here and `TileVM.apply` and `TileVM.reduce_all` do.
    """

    code: Code
    native: Any  # a Call of kernels/cpu/call.h
    buffers: list[Tensor]

    def reduce_rows(self, out: Tensor) -> None:
        """Write each row's reductions to `out`, float32 [lanes, R]."""
        self.native.reduce_rows(self.code.kinds, out.data_ptr())

    def reduce_columns(self, out: Tensor) -> None:
        """Write each column's reductions to `out`, float32 [lanes, C]."""
        self.native.reduce_columns(self.code.kinds, out.data_ptr())

    def kth_all(self, histogram: BoundCall, ranks: Sequence[int]) -> list[float]:
        """The values of these ranks (ascending, from 1) among all; `self` gathers keys."""
        return self.native.kth_all(histogram.native, ranks)

    def kth_rows(self, ranks: Sequence[int], out: Tensor) -> None:
        """Write each row's values of these ranks to `out`, float32 [ranks, R, 1]."""
        self.native.kth_rows(ranks, out.data_ptr())

    def kth_columns(self, ranks: Sequence[int], out: Tensor) -> None:
        """Write each column's values of these ranks to `out`, float32 [ranks, 1, C]."""
        self.native.kth_columns(ranks, out.data_ptr())


class TileVM:
    """The extension with the settings of a backend."""

    def __init__(self, num_threads: int, isa: str, fused: bool) -> None:
        self._module = load_extension()
        opcodes = {name: i for i, name in enumerate(self._module.opcodes())}
        self._machine = Machine(opcodes, fused)
        self.num_threads = num_threads
        self.isa = isa

    def code(self, graph: KernelGraph, purpose: str, tensors: TensorSet) -> Code:
        """The graph's code for one of `purposes.PURPOSES`.

        It is encoded once for a graph and the formats that the tensors are read from.
        """
        bf16 = frozenset(n for n, t in tensors.experts.items() if t.dtype is torch.bfloat16)
        return encode(graph, purpose, bf16, self._machine)

    def bind(
        self,
        graph: KernelGraph,
        purpose: str,
        tensors: TensorSet,
        slots: Slots,
        by_rows: bool = False,
    ) -> BoundCall:
        """The graph's code with this call's numbers, bound to the tensors.

        A tensor is walked as one row, unless `by_rows` or a vector over rows or columns asks for
        its shape.
        """
        code = self.code(graph, purpose, tensors)

        def value(index: int) -> float:
            node = graph.nodes[index]
            return float(node.attrs[0] if node.op is Op.CONST else filled(slots[node.attrs[0]]))

        shape = tensors.shape2d if by_rows or code.needs_rows else (1, tensors.base.numel())
        read = [tensors.experts[name] if name else tensors.base for name in code.inputs]
        vectors = [filled(slots[slot]).float().contiguous() for slot in code.vectors]
        native = self._module.Call(
            code.filled(value),
            code.num_registers,
            *shape,
            inputs=[tensor.data_ptr() for tensor in read],
            dtypes=[DTYPES[tensor.dtype] for tensor in read],
            vectors=[tensor.data_ptr() for tensor in vectors],
            ranges=code.ranges,
            draws=code.draws,
            num_threads=self.num_threads,
            isa=self.isa,
        )
        return BoundCall(code, native, [*read, *vectors])

    def apply(self, calls: Sequence[BoundCall], outs: Sequence[Tensor]) -> list[bool]:
        """Write each call's results to its output; whether all of its results are finite."""
        places, dtypes = [o.data_ptr() for o in outs], [DTYPES[o.dtype] for o in outs]
        return [bool(f) for f in self._module.apply([c.native for c in calls], places, dtypes)]

    def reduce_all(self, calls: Sequence[BoundCall]) -> list[float]:
        """Every lane of the calls, one call after the other; they share one walk over a tensor."""
        return self._module.reduce_all([c.native for c in calls], [c.code.kinds for c in calls])


def filled(slot: Tensor | None) -> Tensor:
    """The slot's value, which an earlier stage must have put there."""
    assert slot is not None, "a slot is read before it is filled"
    return slot
