"""The C++ backend: encodes stages for the tile VM and hands it pointers.

Sums are made in 64 float lanes per tile of 512, double lanes per block of 65536 elements, blocks
added in order: two runs give the same bits for any number of threads and on every instruction set.
Whether an expression is tiled flat or by rows depends on that expression alone, so a statistic has
the same bits whatever else is computed in the same pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from .backend import Backend, BackendError, Slots, TensorSet
from .encode import (
    BF16,
    F16,
    F32,
    REDUCTION_KINDS,
    Code,
    Encoder,
    encode_apply,
    encode_columns,
    encode_histogram,
    encode_reductions,
)
from .ir import Graph, Op, Space
from .staging import drop_unused, needs

DTYPES = {torch.bfloat16: BF16, torch.float16: F16, torch.float32: F32}
MOST_REDUCTIONS = 16  # in one program: their lanes stay in L1


def load_extension() -> Any:
    """The compiled module; BackendError says how to get it."""
    try:
        from . import _cpu  # pyright: ignore
    except ImportError as error:
        raise BackendError(
            f"the C++ extension is not there ({error}): pip install . with a C++17 compiler on PATH"
        ) from None
    return _cpu


@final
class CpuBackend(Backend):
    """`num_threads` defaults to the cores this process may use; `isa` to the best build."""

    name = "cpu"

    def __init__(self, num_threads: int | None = None, isa: str = "") -> None:
        self._module = load_extension()
        self._opcodes = {name: i for i, name in enumerate(self._module.opcodes())}
        self.num_threads = num_threads or len(os.sched_getaffinity(0))
        self.isa = isa

    # ---- the three things a backend does

    def apply(self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        assert out.is_contiguous(), "the output must be contiguous"
        code = encode_apply(self._encoder(graph, slots), merged=True)
        call, kept = self._call(code, tensors, slots)
        finite = call.apply(out.data_ptr(), DTYPES[out.dtype])
        del kept
        return finite

    def expression(self, graph: Graph, tensors: TensorSet, slots: Slots) -> Tensor:
        code = encode_apply(self._encoder(graph, slots), merged=False)
        call, kept = self._call(code, tensors, slots)
        out = torch.empty(tensors.base.shape, dtype=torch.float32)
        call.apply(out.data_ptr(), F32)
        del kept
        return out

    def sweep(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for outputs, run in self._groups(graph):
            found.update(zip(outputs, run(graph, outputs, tensors, slots), strict=True))
        return [found[output] for output in graph.outputs]

    # ---- reductions, grouped by what can share a pass

    def _groups(self, graph: Graph) -> list[tuple[list[int], Callable[..., list[Tensor]]]]:
        groups: dict[Any, list[int]] = {}
        for output in dict.fromkeys(graph.outputs):
            node = graph.nodes[output]
            alone = output if node.op is Op.KTH else None
            groups.setdefault((node.space, by_rows(graph, output), alone), []).append(output)
        runs = {Space.SCALAR: self._all, Space.ROW: self._rows, Space.COL: self._columns}
        return [
            (outputs[i : i + MOST_REDUCTIONS], self._kth if alone is not None else runs[space])
            for (space, _, alone), outputs in groups.items()
            for i in range(0, len(outputs), MOST_REDUCTIONS)
        ]

    def _all(
        self, graph: Graph, outputs: list[int], tensors: TensorSet, slots: Slots
    ) -> list[Tensor]:
        code = encode_reductions(self._encoder(part(graph, outputs), slots))
        call, kept = self._call(code, tensors, slots)
        values = call.reduce_all(kinds(graph, outputs))
        del kept
        return [torch.tensor(value, dtype=torch.float32) for value in values]

    def _rows(
        self, graph: Graph, outputs: list[int], tensors: TensorSet, slots: Slots
    ) -> list[Tensor]:
        code = encode_reductions(self._encoder(part(graph, outputs), slots))
        call, kept = self._call(code, tensors, slots, rows=True)
        out = torch.empty(len(outputs), tensors.shape2d[0])
        call.reduce_rows(kinds(graph, outputs), out.data_ptr())
        del kept
        return [values[:, None].clone() for values in out]

    def _columns(
        self, graph: Graph, outputs: list[int], tensors: TensorSet, slots: Slots
    ) -> list[Tensor]:
        code = encode_columns(self._encoder(part(graph, outputs), slots, reserved=len(outputs)))
        call, kept = self._call(code, tensors, slots, rows=True)
        out = torch.empty(len(outputs), tensors.shape2d[1])
        call.reduce_columns(kinds(graph, outputs), out.data_ptr())
        del kept
        return [values[None, :].clone() for values in out]

    def _kth(
        self, graph: Graph, outputs: list[int], tensors: TensorSet, slots: Slots
    ) -> list[Tensor]:
        """Over everything: exact, by three histogram passes. By row or column: torch's selection."""
        (output,) = outputs
        node = graph.nodes[output]
        if node.space is not Space.SCALAR:
            values = self.expression(Graph(graph.nodes, node.args), tensors, slots)
            dim = 1 if node.space is Space.ROW else 0
            return [values.reshape(tensors.shape2d).kthvalue(node.attrs[0], dim, True).values]
        code = encode_histogram(self._encoder(part(graph, outputs), slots))
        call, kept = self._call(code, tensors, slots)
        value = call.kth(node.attrs[0])
        del kept
        return [torch.tensor(value, dtype=torch.float32)]

    # ---- calling the VM

    def _encoder(self, graph: Graph, slots: Slots, reserved: int = 0) -> Encoder:
        scalars = {
            node.attrs[0]: float(value)
            for node in graph.nodes
            if node.op is Op.PARAM
            and node.space is Space.SCALAR
            and (value := slots[node.attrs[0]]) is not None
        }
        return Encoder(graph, scalars, self._opcodes, reserved)

    def _call(
        self, code: Code, tensors: TensorSet, slots: Slots, rows: bool = False
    ) -> tuple[Any, list[Tensor]]:
        """The call, and the tensors that must outlive it."""
        shape = tensors.shape2d if rows or code.needs_rows else (1, tensors.base.numel())
        read = [tensors.experts[name] if name else tensors.base for name in code.inputs]
        vectors = [vector(slots[slot]) for slot in code.vectors]
        call = self._module.Call(
            code.text,
            code.num_registers,
            *shape,
            inputs=[tensor.data_ptr() for tensor in read],
            dtypes=[DTYPES[tensor.dtype] for tensor in read],
            vectors=[tensor.data_ptr() for tensor in vectors],
            ranges=list(code.ranges),
            draws=list(code.draws),
            num_threads=self.num_threads,
            isa=self.isa,
        )
        return call, [*read, *vectors]


def vector(value: Tensor | None) -> Tensor:
    assert value is not None, "a vector slot is read before it is filled"
    return value.float().contiguous()


def part(graph: Graph, outputs: Sequence[int]) -> Graph:
    """The same graph with only what these outputs need, so that use counts are right."""
    return drop_unused(Graph(graph.nodes, tuple(outputs)))


def kinds(graph: Graph, outputs: Sequence[int]) -> list[int]:
    return [REDUCTION_KINDS[graph.nodes[output].op] for output in outputs]


def by_rows(graph: Graph, output: int) -> bool:
    """Whether the expression below this reduction reads a ROW or COL vector."""
    nodes = (graph.nodes[i] for i in needs(graph, graph.nodes[output].args))
    return any(n.op is Op.PARAM and n.space is not Space.SCALAR for n in nodes)
