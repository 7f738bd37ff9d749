"""The C++ backend: encodes stages for the tile VM and hands it pointers.

Sums are made in 64 float lanes per 4 tiles of 512, double lanes per block of 65536 elements, blocks
added in order: two runs give the same bits for any number of threads and on every instruction set.
Whether an expression is tiled flat or by rows depends on that expression alone, so a statistic has
the same bits whatever else is computed in the same pass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor

from ..compiler.subgraphs import grouped, needs, part
from ..errors import BackendError
from ..execution.backend import Backend
from ..execution.moments import symmetric
from ..ir import Builder, KernelGraph, Op, Space
from ..stages import KernelPlan
from ..tensors import Slots, TensorSet
from .encode import BF16, F16, F32, Code, Machine
from .purposes import encode

DTYPES = {torch.bfloat16: BF16, torch.float16: F16, torch.float32: F32}
ALL, ROW, COL = Space.SCALAR, Space.ROW, Space.COL
MOST_REDUCTIONS = 16  # in one program: their lanes stay in L1
MOST_VECTORS = 9  # in one program of moments: as many sums as the VM has lanes for


def load_extension() -> Any:
    """The compiled module; BackendError says how to get it."""
    try:
        from .. import _cpu  # pyright: ignore
    except ImportError as error:
        raise BackendError(
            f"the C++ extension is not there ({error}): pip install . with a C++17 compiler on PATH"
        ) from None
    return _cpu


@final
class CpuBackend(Backend):
    """`num_threads` defaults to the cores this process may use; `isa` to the best build.

    `fused=False` runs one instruction for each op: the same bits, for tests of the fused ones.
    """

    name = "cpu"

    def __init__(self, num_threads: int | None = None, isa: str = "", fused: bool = True) -> None:
        self._module = load_extension()
        opcodes = {name: i for i, name in enumerate(self._module.opcodes())}
        self._machine = Machine(opcodes, fused)
        self.num_threads = num_threads or len(os.sched_getaffinity(0))
        self.isa = isa

    # ---- the three things a backend does

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
        calls = [
            self._call(self.code(graph, "merge", tensors), graph, tensors, own)
            for tensors, own in zip(sets, slots, strict=True)
        ]
        return self._run(calls, outs)

    def _run(self, calls: list[tuple[Any, list[Tensor]]], outs: Sequence[Tensor]) -> list[bool]:
        places, dtypes = [o.data_ptr() for o in outs], [DTYPES[o.dtype] for o in outs]
        return [bool(f) for f in self._module.apply([call for call, _ in calls], places, dtypes)]

    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        call = self._call(self.code(graph, "update", tensors), graph, tensors, slots)
        out = torch.empty(tensors.base.shape, dtype=torch.float32)
        self._run([call], [out])
        return out

    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        groups = sweeps_of(graph)
        for by_row in (False, True):
            together = [(o, w) for kind, rows, o, w in groups if (kind, rows) == (ALL, by_row)]
            values = self._all([wanted for _, wanted in together], tensors, slots)
            found.update(zip(chain(*(outputs for outputs, _ in together)), values, strict=True))
        runs = {"kth": self._kth, ROW: self._rows, COL: self._columns}
        for kind, _, outputs, wanted in groups:
            if kind in runs:
                values = runs[kind](wanted, tensors, slots)
                found.update(zip(outputs, values, strict=True))
        return [found[output] for output in graph.outputs]

    def moments(self, tensors: TensorSet) -> Tensor:
        names = tuple(tensors.experts)
        if len(names) > MOST_VECTORS:
            return super().moments(tensors)
        graph = vectors_graph(names)
        code = self.code(graph, "moments", tensors)
        call, kept = self._call(code, graph, tensors, [])
        products = self._module.reduce_all([call], [code.kinds])
        del kept
        return symmetric(products, tensors.base.numel(), len(names) + 1)

    # ---- reductions: each gets a graph of its outputs only

    def _all(self, graphs: list[KernelGraph], tensors: TensorSet, slots: Slots) -> list[Tensor]:
        """The graphs' programs share one walk; their outputs, one graph after the other."""
        if not graphs:
            return []
        codes = [self.code(graph, "reductions", tensors) for graph in graphs]
        pairs = zip(codes, graphs, strict=True)
        calls, kept = zip(*(self._call(*pair, tensors, slots) for pair in pairs), strict=True)
        values = self._module.reduce_all(list(calls), [code.kinds for code in codes])
        del kept
        lanes, found = torch.tensor(values, dtype=torch.float32).unbind(), list[Tensor]()
        for code in codes:
            found += [lanes[lane] for lane in code.lanes]
            lanes = lanes[len(code.kinds) :]
        return found

    def _rows(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        code = self.code(graph, "reductions", tensors)
        call, kept = self._call(code, graph, tensors, slots, rows=True)
        out = torch.empty(len(code.kinds), tensors.shape2d[0])
        call.reduce_rows(code.kinds, out.data_ptr())
        del kept
        return [out[lane][:, None].clone() for lane in code.lanes]

    def _columns(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        code = self.code(graph, "columns", tensors)
        call, kept = self._call(code, graph, tensors, slots, rows=True)
        out = torch.empty(len(code.kinds), tensors.shape2d[1])
        call.reduce_columns(code.kinds, out.data_ptr())
        del kept
        return [out[lane][None, :].clone() for lane in code.lanes]

    def _kth(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        """Exact; ranks of one expression share a pass (kernels/cpu/order.cpp)."""
        space = graph.nodes[graph.outputs[0]].space
        wanted = [graph.nodes[output].attrs[0] for output in graph.outputs]
        ranks = sorted(set(wanted))
        code = self.code(graph, "gather", tensors)
        call, kept = self._call(code, graph, tensors, slots, rows=space is not Space.SCALAR)
        if space is Space.SCALAR:
            counting = self.code(graph, "histogram", tensors)
            histogram, also_kept = self._call(counting, graph, tensors, slots)
            out = torch.tensor(call.kth_all(histogram, ranks), dtype=torch.float32)
            del also_kept
        else:
            rows, cols = tensors.shape2d
            shape = (rows, 1) if space is Space.ROW else (1, cols)
            out = torch.empty(len(ranks), *shape)
            (call.kth_rows if space is Space.ROW else call.kth_columns)(ranks, out.data_ptr())
        del kept
        return [out[ranks.index(rank)].clone() for rank in wanted]

    # ---- calling the VM

    def prepare(self, plan: KernelPlan, tensors: TensorSet) -> None:
        """All that precedes the first tile of a plan without sweeps: encode, fill in, hand over."""
        assert len(plan.stages) == 1, "a plan with sweeps reads the weights before its last pass"
        graph, (slots,) = plan.stages[0].graph, self.run_stages([plan], [tensors], [None])
        self._call(self.code(graph, "merge", tensors), graph, tensors, slots)

    def code(self, graph: KernelGraph, purpose: str, tensors: TensorSet) -> Code:
        """Encoded once for a graph and the formats it is read from."""
        bf16 = frozenset(n for n, t in tensors.experts.items() if t.dtype is torch.bfloat16)
        return encode(graph, purpose, bf16, self._machine)

    def _call(
        self, code: Code, graph: KernelGraph, tensors: TensorSet, slots: Slots, rows: bool = False
    ) -> tuple[Any, list[Tensor]]:
        """The call, and the tensors that must outlive it."""

        def value(index: int) -> float:
            node = graph.nodes[index]
            return float(node.attrs[0] if node.op is Op.CONST else filled(slots[node.attrs[0]]))

        shape = tensors.shape2d if rows or code.needs_rows else (1, tensors.base.numel())
        read = [tensors.experts[name] if name else tensors.base for name in code.inputs]
        vectors = [filled(slots[slot]).float().contiguous() for slot in code.vectors]
        call = self._module.Call(
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
        return call, [*read, *vectors]


def filled(slot: Tensor | None) -> Tensor:
    assert slot is not None, "a slot is read before it is filled"
    return slot


@lru_cache(maxsize=8)
def vectors_graph(names: tuple[str, ...]) -> KernelGraph:
    """The task vectors themselves."""
    builder = Builder()
    return builder.graph(*map(builder.input, names))


@lru_cache(maxsize=512)
def sweeps_of(graph: KernelGraph) -> list[tuple[str, bool, list[int], KernelGraph]]:
    """The outputs by what can share a program: how they are run, whether by rows, which, and a graph
    of them alone."""

    def kind(output: int) -> tuple[str, bool, tuple[int, ...]]:
        node = graph.nodes[output]
        ranked = node.op is Op.KTH
        shared = "kth" if ranked else node.space
        return shared, by_rows(graph, output), node.args if ranked else ()

    groups = grouped(graph, kind, MOST_REDUCTIONS)
    return [(how, rows, outputs, part(graph, outputs)) for (how, rows, _), outputs in groups]


def by_rows(graph: KernelGraph, output: int) -> bool:
    """Whether the expression below this reduction reads a ROW or COL vector."""
    nodes = (graph.nodes[i] for i in needs(graph, graph.nodes[output].args))
    return any(n.op is Op.PARAM and n.space is not Space.SCALAR for n in nodes)
