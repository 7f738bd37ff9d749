"""From a stage's graph to readable Triton source: one kernel, one launch for many tensors.

    apply    out = base + update, rounded once; or the float32 update alone
    total    sums and extremes over whole tensors, a partial result a chunk
    rows     the same over each row          columns   the same over each column
    below    how many values are below pivots; collect: those between two (order statistics)

A program owns a chunk of one tensor. Which one, a map says; where its data is, a row of the descriptor
table (table.py). Blocks are [BLOCK // 8, 8]: a row is 16 bytes of bf16. Each element is read once from
the base and from every expert that is used and computed in float32; `apply` does so without fusing
products and sums, which gives the C++ backend's roundings.

WHOLE says that addresses are multiples of 16 bytes and lengths of 8 elements, which makes accesses 16
bytes wide. Tails and misaligned tensors are rows of a second table, for the other build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..ir import KernelGraph, Op, Space
from .body import Body, Kernel
from .templates import TEMPLATES

MOST_REDUCTIONS, MOST_RANKS = 30, 3  # in one kernel: beyond, registers spill


@dataclass(frozen=True)
class Spec:
    """How a kind is compiled. A chunk has ITERS blocks, fewer where all tensors are shorter."""

    sizes: Mapping[str, int]
    num_warps: int = 4
    enable_fp_fusion: bool = False  # of products and sums

    @property
    def options(self) -> dict[str, Any]:
        return {"num_warps": self.num_warps, "enable_fp_fusion": self.enable_fp_fusion}

    @property
    def block(self) -> int:
        return self.sizes["BLOCK"]

    @property
    def chunk(self) -> int:
        """Elements."""
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


@lru_cache(maxsize=1024)
def generate(graph: KernelGraph, kind: str, dtypes: tuple[str, ...], merged: bool = True) -> Kernel:
    """The kernel of a graph; `dtypes`: of base and inputs, in the order of first use.

    `apply` takes one output (`merged`: add the base, round), `below` and `collect` k-th values of one expression,
    the others sums and extremes.
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
    return tuple(dict.fromkeys(n.attrs[0] for n in graph.nodes if n.op is Op.INPUT))


def slots_of(graph: KernelGraph, space: Space) -> tuple[int, ...]:
    found = (n.attrs[0] for n in graph.nodes if n.op is Op.PARAM and n.space is space)
    return tuple(dict.fromkeys(found))


def shared_kernel(graph: KernelGraph, output: int) -> tuple[Space, tuple[int, ...] | None]:
    """What reductions must share to be one kernel: the direction; for k-th values, their argument."""
    node = graph.nodes[output]
    return node.space, node.args if node.op is Op.KTH else None
