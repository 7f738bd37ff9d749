"""The tile VM as Python sees it: encodes graphs, and calls the C++ entry points on tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compiler.clock import check, wall_until
from ..ir import KernelGraph, Op
from ..tensors import Slots, TensorSet
from .encode import BF16, F16, F32, Code, Machine
from .extension import load_extension
from .purposes import encode

DTYPES = {torch.bfloat16: BF16, torch.float16: F16, torch.float32: F32}


@dataclass(slots=True)
class BoundCall:
    """One program bound to one tensor's memory.

    The native call holds addresses only. This object owns the tensors behind them, so it must live
    until the native call has returned. The methods here, `TileVM.apply` and `TileVM.reduce_all` see
    to that; nothing else touches `native`.
    """

    code: Code
    native: Any  # a Call of kernels/cpu/call.h
    buffers: list[Tensor]

    def reduce_rows(self, out: Tensor) -> None:
        """Write each row's reductions to `out`, float32 [lanes, R]."""
        with in_time():
            self.native.reduce_rows(self.code.kinds, out.data_ptr())

    def reduce_columns(self, out: Tensor) -> None:
        """Write each column's reductions to `out`, float32 [lanes, C]."""
        with in_time():
            self.native.reduce_columns(self.code.kinds, out.data_ptr())

    def kth_all(self, histogram: BoundCall, ranks: Sequence[int]) -> list[float]:
        """Return the values of these ranks, ascending and from 1, among all elements.

        This call's program gathers keys; that of `histogram` counts them.
        """
        with in_time():
            return self.native.kth_all(histogram.native, ranks)

    def kth_rows(self, ranks: Sequence[int], out: Tensor) -> None:
        """Write each row's values of these ranks to `out`, float32 [ranks, R, 1]."""
        with in_time():
            self.native.kth_rows(ranks, out.data_ptr())

    def kth_columns(self, ranks: Sequence[int], out: Tensor) -> None:
        """Write each column's values of these ranks to `out`, float32 [ranks, 1, C]."""
        with in_time():
            self.native.kth_columns(ranks, out.data_ptr())


class TileVM:
    """The compiled extension with the settings of a backend."""

    def __init__(self, num_threads: int, isa: str, fused: bool) -> None:
        self._module = load_extension()
        opcodes = {name: i for i, name in enumerate(self._module.opcodes())}
        self._machine = Machine(opcodes, fused)
        self.num_threads = num_threads
        self.isa = isa

    def code(self, graph: KernelGraph, purpose: str, tensors: TensorSet) -> Code:
        """Return the graph's code for one of `purposes.PURPOSES`.

        A graph is encoded once for the formats in which tensors are stored.
        """
        bf16 = frozenset([n for n, t in tensors.experts.items() if t.dtype is torch.bfloat16])
        return encode(graph, purpose, bf16, self._machine)

    def bind(
        self,
        graph: KernelGraph,
        purpose: str,
        tensors: TensorSet,
        slots: Slots,
        by_rows: bool = False,
    ) -> BoundCall:
        """Fill this call's numbers into the graph's code, and bind it to the tensors and to the time left.

        The tensors count as one row, unless `by_rows` or a ROW or COL vector in the code asks for
        their shape.
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
            deadline=wall_until(),
        )
        return BoundCall(code, native, [*read, *vectors])

    def apply(self, calls: Sequence[BoundCall], outs: Sequence[Tensor]) -> list[bool]:
        """Write each call's results to its output, and return whether they are all finite."""
        places, dtypes = [o.data_ptr() for o in outs], [DTYPES[o.dtype] for o in outs]
        with in_time():
            flags = self._module.apply([c.native for c in calls], places, dtypes)
        return [bool(flag) for flag in flags]

    def reduce_all(self, calls: Sequence[BoundCall]) -> list[float]:
        """Return all lanes of the calls, one call's after the other's.

        The calls share one walk over a tensor, which they must cut alike.
        """
        with in_time():
            return self._module.reduce_all([c.native for c in calls], [c.code.kinds for c in calls])


@contextmanager
def in_time() -> Iterator[None]:
    """Raise OutOfTime where a native call ended because a limit of its caller was over."""
    try:
        yield
    except load_extension().Late:
        check()
        raise


def filled(slot: Tensor | None) -> Tensor:
    """Return the slot's value, which an earlier stage must have put there."""
    assert slot is not None, "a slot is read before it is filled"
    return slot
