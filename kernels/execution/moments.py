"""Gives statistics of blends without reading a weight again.

A blend is x = c_0 + sum c_i t_i, for task vectors t_i and a program's own numbers c_i. Norms, dot
products, cosines, means and variances are sums of products of blends. The *moments* of a tensor are
M_ij = sum v_i v_j of v = (1, t_1, ..., t_K), made once, in double precision. Then every such statistic
is sum q_ij M_ij, whatever the numbers. Where its terms cancel, little of it may be certain: a statistic
that is not sure to be as exact as a sweep (`TOLERANCE`) is swept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from ..compiler.cache import kept
from ..compiler.subgraphs import needs
from ..ir import KernelGraph, Node, Op, Space
from ..tensors import TensorSet

EPSILON = 1e-12  # error of the moments, relative to the magnitudes of their terms
TOLERANCE = 1e-7  # error of a statistic: a tenth of what the numerics contract allows
# Beyond these limits a float32 pass would overflow or lose digits, where exact numbers do not.
MOST_FACTOR, LEAST_SQUARE, MOST_SQUARE = 1e15, 1e-30, 1e30

# q of the sum of q_ij v_i v_j, float64 [K + 1, K + 1]. For a blend, only row 0 is not zero.
Form = np.ndarray
PREFIX = "moment"  # begins the memo's keys of moments
PIECE_ELEMENTS = 1 << 22


def moments_by_torch(tensors: TensorSet) -> Tensor:
    """Return the moments of K task vectors, float64 [K + 1, K + 1] on the CPU.

    They are summed on the tensors' device, in pieces.
    """
    count = len(tensors.experts) + 1
    total = torch.zeros(count, count, dtype=torch.float64, device=tensors.base.device)
    base = tensors.base.reshape(-1)
    for start in range(0, base.numel(), PIECE_ELEMENTS):
        piece = slice(start, start + PIECE_ELEMENTS)
        below = base[piece].float()
        vectors = [e.reshape(-1)[piece].float() - below for e in tensors.experts.values()]
        rows = torch.stack([torch.ones_like(below), *vectors]).double()
        total += rows @ rows.T
    return total.cpu()


def symmetric(products: Sequence[float], numel: int, size: int) -> Tensor:
    """Return the moments, float64 [size, size], from their upper triangle by rows.

    `products` leaves out the triangle's first number, the sum of 1 * 1, which is `numel`.
    """
    found = torch.empty(size, size, dtype=torch.float64)
    pairs = combinations_with_replacement(range(size), 2)
    for (i, j), value in zip(pairs, [float(numel), *products], strict=True):
        found[i, j] = found[j, i] = value
    return found


def keys_of(names: Sequence[str]) -> list[str]:
    """Return a memo's keys of the upper triangle's numbers, by rows."""
    vectors = ["1", *(f"t {name}" for name in names)]
    return [f"{PREFIX}|{x}|{y}" for x, y in combinations_with_replacement(vectors, 2)]


def degree(graph: KernelGraph, output: int) -> int | None:
    """Return the degree of a sum over everything of a polynomial in the task vectors.

    It is 1 or 2, with numbers as coefficients. None says that the output is no such sum.
    """
    node = graph.nodes[output]
    if node.op is not Op.REDUCE_SUM or node.space is not Space.SCALAR:
        return None
    whole = degrees(graph)[node.args[0]]
    return whole if whole in (1, 2) else None


@kept()
def degrees(graph: KernelGraph) -> list[int | None]:
    """Return each node's degree as a polynomial, in one walk: many sums rest on the same values."""
    found = list[int | None]()
    for node in graph.nodes:
        args = [found[a] for a in node.args]
        found.append(None if None in args else degree_of(node, args))  # pyright: ignore
    return found


def degree_of(node: Node, args: Sequence[int]) -> int | None:
    """Return a node's degree as a polynomial, given its arguments' degrees."""
    if node.op is Op.INPUT:
        return 1
    if node.op in (Op.CONST, Op.PARAM):
        return 0 if node.space is Space.SCALAR else None
    if node.op in (Op.ADD, Op.SUB, Op.NEG):
        return max(args)
    if node.op is Op.MUL and sum(args) <= 2:
        return sum(args)
    return args[0] if node.op is Op.DIV and args[1] == 0 else None


def forms_of(
    graph: KernelGraph, outputs: Sequence[int], names: Sequence[str], slots: Sequence[Tensor | None]
) -> list[Form]:
    """Return what each output sums, with the numbers of this call. Each must have a `degree`."""
    summands = tuple(graph.nodes[output].args[0] for output in outputs)
    found: dict[int, Form] = {}
    # NaN and Inf need no warning: such a statistic is swept.
    with np.errstate(all="ignore"):
        for index in needs(graph, summands):
            node = graph.nodes[index]
            found[index] = combined(node, [found[a] for a in node.args], names, slots)
    return [found[summand] for summand in summands]


def combined(
    node: Node, args: list[Form], names: Sequence[str], slots: Sequence[Tensor | None]
) -> Form:
    """Return a node's form, given its arguments' forms."""
    if node.op is Op.NEG:
        return -args[0]
    if node.op is Op.ADD:
        return args[0] + args[1]
    if node.op is Op.SUB:
        return args[0] - args[1]
    if node.op is Op.DIV:
        return args[0] / args[1][0, 0]
    if node.op is Op.MUL:
        x, y = args
        if is_number(y):
            return x * y[0, 0]
        return y * x[0, 0] if is_number(x) else np.outer(x[0], y[0])
    found = np.zeros((len(names) + 1,) * 2)
    if node.op is Op.INPUT:
        found[0, 1 + list(names).index(node.attrs[0])] = 1.0
    else:
        value = node.attrs[0] if node.op is Op.CONST else slots[node.attrs[0]]
        found[0, 0] = float(value)
    return found


def is_number(form: Form) -> bool:
    return not form.ravel()[1:].any()


def summed(form: Form, moments: np.ndarray, lengths: np.ndarray) -> float | None:
    """Return the sum q_ij M_ij, or None where a sweep would be more exact.

    `lengths` are sqrt(M_ii). The error is at most EPSILON of the terms' magnitudes, each of which is
    at most |q_ij| sqrt(M_ii M_jj). It may be TOLERANCE of the sum of |what is summed|. That is no less
    than |the sum|, and for a blend x no less than the norm of x.
    """
    sizes = np.abs(form)
    bound = float(lengths @ sizes @ lengths)
    value = float(np.vdot(form, moments))
    if bound == 0.0:
        return 0.0
    if not math.isfinite(value) or sizes.max() > MOST_FACTOR:
        return None
    if form[1:].any():
        ordinary = LEAST_SQUARE * moments[0, 0] <= abs(value) <= MOST_SQUARE
        return value if ordinary and EPSILON * bound <= TOLERANCE * abs(value) else None
    square = float(form[0] @ moments @ form[0])
    surely = math.sqrt(max(0.0, square - EPSILON * float(sizes[0] @ lengths) ** 2))
    return value if EPSILON * bound <= TOLERANCE * max(surely, abs(value)) else None
