"""Generates Triton source from a stage's graph: one kernel, which one launch runs over many tensors.

    apply    out = base + update, rounded once; or the float32 update alone
    total    sums and extremes over whole tensors, with a partial result for each chunk
    rows     sums and extremes over each row
    columns  sums and extremes over each column
    below    for k-th values: how many keys are below pivots
    collect  for k-th values: the keys between two bounds

A Triton program works on a chunk of one tensor. A map says which tensor, and a row of the descriptor
table says where its data is (table.py). Blocks are [BLOCK // 8, 8], so that a row of 8 is 16 bytes of
bf16. Each element of the base and of the experts in use is read once, and computed with in float32.
`apply` does not fuse products and sums, so that it rounds as the C++ backend does.

WHOLE says that addresses are multiples of 16 bytes and lengths of 8 elements, which makes accesses 16
bytes wide. Tails and misaligned tensors are rows of a second table, which the other build reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..compiler.cache import kept
from ..ir import KernelGraph, Op, Space
from .body import Body, Kernel
from .templates import TEMPLATES

MOST_REDUCTIONS, MOST_RANKS = 30, 3  # in one kernel: with more, registers spill


@dataclass(frozen=True)
class Spec:
    """How a kind is compiled. A chunk has ITERS blocks, and fewer where all tensors are shorter."""

    sizes: Mapping[str, int]
    num_warps: int = 4
    enable_fp_fusion: bool = False  # whether a product and a sum may become one instruction

    @property
    def options(self) -> dict[str, Any]:
        return {"num_warps": self.num_warps, "enable_fp_fusion": self.enable_fp_fusion}

    @property
    def block(self) -> int:
        return self.sizes["BLOCK"]

    @property
    def chunk(self) -> int:
        """The number of elements in a chunk."""
        return self.block * self.sizes["ITERS"]


SPECS = {
    "apply": Spec({"BLOCK": 2048, "ITERS": 2}),
    "total": Spec({"BLOCK": 1024, "ITERS": 16}, enable_fp_fusion=True),
    "rows": Spec({"BLOCK": 1024, "ITERS": 16}, enable_fp_fusion=True),
    "columns": Spec({"ROWS": 16, "COLS": 128, "ITERS": 16}, enable_fp_fusion=True),
    "below": Spec({"BLOCK": 1024, "ITERS": 16}),
    "collect": Spec({"BLOCK": 1024, "ITERS": 16}),
}
FINISH_BLOCK = 1024  # partial results that are added at a time


@kept()
def generate(graph: KernelGraph, kind: str, dtypes: tuple[str, ...], merged: bool = True) -> Kernel:
    """Return the kernel of a graph. `dtypes` are the formats of the base and of `inputs_of(graph)`.

    For `apply` the graph has one output; `merged` says to add the base and round. For `below` and
    `collect` its outputs are k-th values of one expression, for other kinds sums and extremes.
    """
    inputs = inputs_of(graph)
    scalars, rows, cols = (slots_of(graph, s) for s in (Space.SCALAR, Space.ROW, Space.COL))
    reduced = [o for o in graph.outputs if graph.nodes[o].op is not Op.KTH and kind != "apply"]
    sums = tuple(o for o in reduced if graph.nodes[o].op is Op.REDUCE_SUM)
    extremes = tuple(o for o in reduced if graph.nodes[o].op is not Op.REDUCE_SUM)
    reads_base = bool(inputs) or (kind == "apply" and merged)
    plain = Kernel(kind, "", inputs, scalars, rows, cols, reads_base, sums, extremes)
    source = TEMPLATES[kind](Body(graph, plain, dtypes, merged))
    return replace(plain, source=source)


def inputs_of(graph: KernelGraph) -> tuple[str, ...]:
    """Return the names of the experts that a graph reads, as they are first used."""
    return tuple(dict.fromkeys(n.attrs[0] for n in graph.nodes if n.op is Op.INPUT))


def slots_of(graph: KernelGraph, space: Space) -> tuple[int, ...]:
    found = (n.attrs[0] for n in graph.nodes if n.op is Op.PARAM and n.space is space)
    return tuple(dict.fromkeys(found))


def shared_kernel(graph: KernelGraph, output: int) -> tuple[Space, tuple[int, ...] | None]:
    """Return what reductions of one kernel share: the space, and for k-th values the argument."""
    node = graph.nodes[output]
    return node.space, node.args if node.op is Op.KTH else None
