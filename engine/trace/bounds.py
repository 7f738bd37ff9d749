"""All limits of a trace, and the budget that its operations are charged to.

The estimate of work uses shapes only and is right within a small factor. It refuses programs that
would take a day in little memory; it does not predict time. The child checks first, because it
knows the program's line; the verifier checks again. Limits of the child's process are in sandbox/.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .graph import TraceGraph, TraceNode, references
from .wire import DTYPES, dtype_name

MAX_NODES = 20_000  # operations in one graph
MAX_RESULTS = 100_000  # tensors that the operations of one trace make: one may make thousands
MAX_ARGUMENTS = 4_096  # entries of one list among a node's arguments
MAX_ARGUMENT_DEPTH = 8  # levels of lists within lists
MAX_RANK = 8  # dimensions of any tensor
MAX_LIST = 16  # sizes or axes in one list; padding has two for each dimension
MAX_INT = 1 << 40  # magnitude of a size, an axis or a step
MAX_CONSTANT_ELEMENTS = 65_536  # numbers of one tensor that is sent with the graph
MAX_CONSTANTS_ELEMENTS = 1 << 18  # numbers of all such tensors of one trace
MAX_ANSWER_ELEMENTS = 4_096  # numbers in one answer to a value question
MAX_DRAWS = 1_000  # random draws whose keys are worked out again
MAX_WORK = 5e14  # scalar operations, half a day or more; before that the clock decides
MAX_INTERMEDIATE_FACTOR = 16  # largest tensor, as a multiple of all inputs together
LEAST_INTERMEDIATE_BYTES = 64 << 20  # allowed for a tensor however small the inputs are
MAX_VERIFY_CPU_S = (
    10.0  # spent on verifying one trace; thousands of ordinary nodes take a second or two
)

# Base name -> position of the matrix argument whose last dimension is summed over.
CONTRACTIONS = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "_cdist_forward", "_pdist_forward"), 0),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm"), 1),
}
# Base name -> factor of m n min(m, n), the scalar operations for an m x n matrix.
DECOMPOSITIONS = {
    **dict.fromkeys(("_linalg_svd", "linalg_pinv", "linalg_lstsq", "linalg_matrix_norm"), 20),
    **dict.fromkeys(("linalg_eig", "linalg_matrix_exp"), 30),
    **dict.fromkeys(("_linalg_eigh", "corrcoef", "cov"), 10),
    **dict.fromkeys(("linalg_qr", "linalg_inv_ex", "_linalg_solve_ex", "ormqr"), 4),
    **dict.fromkeys(("linalg_cholesky_ex", "linalg_lu_factor_ex", "linalg_ldl_factor_ex"), 2),
    **dict.fromkeys(("linalg_lu", "_linalg_det", "_linalg_slogdet"), 2),
    **dict.fromkeys(("linalg_solve_triangular", "cholesky_solve", "lu_unpack"), 2),
}
SORTS = frozenset(
    {
        *("sort", "topk", "kthvalue", "median", "nanmedian", "mode", "quantile", "nanquantile"),
        *("_unique2", "unique_dim", "searchsorted", "bucketize"),
        *("_fft_r2c", "_fft_c2r", "_fft_c2c"),
    }
)
# Base name -> position of the window's size.
WINDOWS = {"avg_pool2d": 1, "max_pool2d_with_indices": 1, "im2col": 1, "col2im": 2}


@dataclass
class Budget:
    """Adds up what operations cost. `fits` and `charge` return why one is refused, or None."""

    inputs_bytes: int = 0
    work: float = 0.0
    constants_elements: int = 0
    num_results: int = 0

    @property
    def limit_bytes(self) -> int:
        return max(LEAST_INTERMEDIATE_BYTES, MAX_INTERMEDIATE_FACTOR * self.inputs_bytes)

    def fits(self, op: str, outputs: list[Tensor]) -> str | None:
        if op == "const":
            self.constants_elements += sum(one.numel() for one in outputs)
        if self.constants_elements > MAX_CONSTANTS_ELEMENTS:
            return f"more than {MAX_CONSTANTS_ELEMENTS} numbers in constant tensors: compute them"
        self.num_results += len(outputs)
        if self.num_results > MAX_RESULTS:
            return f"more than {MAX_RESULTS} results: {op} makes {len(outputs)}; split into fewer"
        for one in outputs:
            size = one.numel() * one.element_size()
            if size > self.limit_bytes:
                return (
                    f"{op} makes a tensor of {tuple(one.shape)}: {size >> 20} MiB, at most "
                    f"{self.limit_bytes >> 20} MiB: work on parts of it"
                )
        return None

    @staticmethod
    def bad_result(op: str, outputs: list[Tensor]) -> str | None:
        for one in outputs:
            if one.dim() > MAX_RANK:
                return f"{op} makes a tensor of {one.dim()} dimensions, at most {MAX_RANK}"
            if dtype_name(one.dtype) not in DTYPES:
                return f"{op} makes {one.dtype}, which no kernel here computes with"
            # Torch expands no elements to -2 rows.
            if min(one.shape, default=0) < 0:
                return f"{op} makes a tensor of {tuple(one.shape)}"
        return None

    def charge(self, op: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> str | None:
        if op in ("input", "const", "item"):
            return None
        work = work_of(op.split(".")[1], args, inputs, outputs)
        self.work += work
        if self.work <= MAX_WORK:
            return None
        return (
            f"{op} brings the estimated work to {self.work:.1e} operations ({work:.1e} of its own), "
            f"at most {MAX_WORK:.0e}, whatever the clock allows: use fewer or smaller matrix products "
            "and decompositions"
        )


def graph_work(graph: TraceGraph) -> float:
    """Estimates the scalar operations of a graph on one tensor, of those with a single result."""

    def meta_of(node: TraceNode) -> list[Tensor]:
        return [] if node.shape is None else [torch.empty(node.shape, device="meta")]

    work = 0.0
    for index in graph.needed(graph.outputs):
        node = graph.nodes[index]
        if node.op not in ("input", "const", "item"):
            inputs = [t for i in references(node) for t in meta_of(graph.nodes[i])]
            work += work_of(node.op.split(".")[1], node.args, inputs, meta_of(node))
    return work


def work_of(name: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> float:
    """Estimates the scalar operations of one op. `inputs` and `outputs` give the shapes."""
    sizes = [t.numel() for t in (*inputs, *outputs)]
    touched, made = float(sum(sizes)), float(sum(t.numel() for t in outputs))
    if name in CONTRACTIONS and len(inputs) > CONTRACTIONS[name]:
        return touched + 2 * made * last(inputs[CONTRACTIONS[name]]) * summed(name, inputs)
    if name in DECOMPOSITIONS and inputs:
        matrix = max(inputs, key=lambda t: t.numel())
        return touched + DECOMPOSITIONS[name] * matrix.numel() * min(matrix.shape[-2:], default=1)
    if name == "convolution" and len(inputs) > 1:
        return touched + 2 * made * inputs[1].numel() / max(1, inputs[1].shape[0])
    if name in WINDOWS:
        at = WINDOWS[name]
        return touched + made * math.prod(integers(args[at] if len(args) > at else ()))
    if name in SORTS:
        return touched * max(1.0, math.log2(max(sizes, default=1) or 1))
    return touched


def last(matrix: Tensor) -> int:
    return matrix.shape[-1] if matrix.dim() else 1


def summed(name: str, inputs: list[Tensor]) -> int:
    """The length of a second dimension that is summed over: addbmm also sums over the batch."""
    return inputs[1].shape[0] if name == "addbmm" else 1


def integers(sizes: Any) -> list[int]:
    values = sizes if isinstance(sizes, (list, tuple)) else [sizes]
    return [n for n in values if type(n) is int and n > 0]
