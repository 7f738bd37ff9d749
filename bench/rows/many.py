"""`many`: 12 statistics for each of 100 candidates, beside those of one candidate.

All candidates share 6 statistics: squares and magnitudes of the three task vectors. The other 6 are
of the candidate's own blend of them, and algebra gives them from the products of the task vectors.
The tensor is one of a 7 B model's MLP; no statistic is known before. The row also measures
candidates with statistics that algebra does not give (magnitudes, counts above a threshold): for
these the processor's arithmetic is the floor, not one read of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ...kernels.backends import get_backend
from ...kernels.compiler.passes import compile_values
from ...kernels.execution.backend import Backend
from ...kernels.ir import Builder, KernelGraph, Op, Space
from ...kernels.stages import KernelPlan
from ...kernels.tensors import TensorSet
from ..registry import BenchError, Row
from ..timing import Times, best_of, readers, timed
from .apply import GPU_COLS, GPU_ROWS, normal_tensors
from .sweep import statistics_graph

NUM_CANDIDATES, NUM_OTHERS = 100, 20
MOST = 5.0
ROUNDS = 3


def shared(b: Builder, vectors: Sequence[int]) -> list[int]:
    """The terms that all candidates sum: 3 squares, 3 magnitudes."""
    return [b.add(Op.MUL, x, x) for x in vectors] + [b.add(Op.ABS, x) for x in vectors]


def blend(b: Builder, vectors: Sequence[int], index: int) -> int:
    weights = (0.2 + 0.001 * index, 0.3 + 0.002 * index, 0.5 - 0.001 * index)
    parts = [b.add(Op.MUL, x, b.const(w)) for x, w in zip(vectors, weights, strict=True)]
    return b.add(Op.ADD, b.add(Op.ADD, parts[0], parts[1]), parts[2])


def candidate(index: int) -> KernelGraph:
    """Statistics of a blend that algebra gives.

    They are its sum, its square, its products with the task vectors, and its square distance to the
    first one.
    """
    b = Builder()
    vectors = [b.input(name) for name in "abc"]
    own = blend(b, vectors, index)
    away = b.add(Op.SUB, own, vectors[0])
    summed = [own, *(b.add(Op.MUL, own, x) for x in (own, *vectors)), b.add(Op.MUL, away, away)]
    return totals(b, shared(b, vectors) + summed)


def other(index: int) -> KernelGraph:
    """Statistics of a blend that algebra does not give.

    They are its magnitude, the part of that above a threshold, and 4 counts above the threshold.
    """
    b = Builder()
    vectors = [b.input(name) for name in "abc"]
    size, cut = b.add(Op.ABS, blend(b, vectors, index)), b.const(1e-4 * (1 + 0.01 * index))
    kept = [b.add(Op.LT, cut, b.add(Op.ABS, x)) for x in (size, *vectors)]
    summed = [size, b.add(Op.MUL, size, kept[0]), *kept]
    return totals(b, shared(b, vectors) + summed)


def totals(b: Builder, summed: Sequence[int]) -> KernelGraph:
    return b.graph(*(b.add(Op.REDUCE_SUM, x, space=Space.SCALAR) for x in summed))


def check(backend: Backend, tensors: TensorSet) -> None:
    """Check three candidates of each kind in float64, to 1e-6 of the terms' magnitudes.

    For those with counts 1e-5 is allowed, because values may lie on the threshold.
    """
    a, b, c = (tensors.vector(name, torch.float64) for name in "abc")
    for index in (0, 57, 99):
        own = sum(w * x for w, x in zip(
            (0.2 + 0.001 * index, 0.3 + 0.002 * index, 0.5 - 0.001 * index), (a, b, c), strict=True
        ))  # fmt: skip
        assert isinstance(own, torch.Tensor)
        size, cut = own.abs(), 1e-4 * (1 + 0.01 * index)
        terms = [own, own * own, own * a, own * b, own * c, (own - a) ** 2]
        counts = [size, size * (size > cut), *((x.abs() > cut).double() for x in (own, a, b, c))]
        for graph, wanted, room in ((candidate, terms, 1e-6), (other, counts, 1e-5)):
            (found,) = backend.values_all([compile_values(graph(index))], [tensors], [None])
            for value, term in zip(found[6:], wanted, strict=True):
                if abs(float(value) - float(term.sum())) > room * float(term.abs().sum()):
                    raise BenchError(f"bench many: {float(value)} is not {float(term.sum())}")


def together(
    backend: Backend, plans: Sequence[KernelPlan], tensors: TensorSet
) -> Callable[[], object]:
    def run() -> object:
        memo: dict[str, torch.Tensor] = {}
        return backend.values_all(plans, [tensors] * len(plans), [memo] * len(plans))

    return run


def measure(zoo: Path, update: Callable[[int, int], None], device: str = "cpu") -> Row:
    """Time for 100 candidates over time for one, in the same run."""
    backend = get_backend("cpu" if device == "cpu" else "triton")
    tensors = normal_tensors(0, device, GPU_ROWS, GPU_COLS)
    check(backend, normal_tensors(1, device, 512, 2140))
    update(1, 2)
    own = [compile_values(candidate(i)) for i in range(NUM_CANDIDATES)]
    others = [compile_values(other(i)) for i in range(NUM_CANDIDATES)]
    apart = [together(backend, [plan], tensors) for plan in others[:NUM_OTHERS]]
    times = timed(
        {
            "ours": together(backend, own, tensors),
            "one": together(backend, own[:1], tensors),
            "sweep": together(backend, [compile_values(statistics_graph())], tensors),
            **readers(8 * tensors.base.numel(), device),
            "others": together(backend, others[:NUM_OTHERS], tensors),
            "other": together(backend, others[:1], tensors),
            "apart": lambda: [run() for run in apart],
        },
        rounds=ROUNDS,
        device=device,
    )
    update(2, 2)
    return row_of(times, device)


def row_of(times: dict[str, Times], device: str) -> Row:
    ours, one = times["ours"].median_s, times["one"].median_s
    more = {
        "device": device,
        "x_plain_sweep": ours / times["sweep"].median_s,
        "x_read": ours / best_of(times, "read")[1].median_s,
        f"x_one_of_{NUM_OTHERS}_without_algebra": times["others"].median_s
        / times["other"].median_s,
        "x_together_without_algebra": times["apart"].median_s / times["others"].median_s,
        "spread_ms": [1e3 * s for s in times["ours"].spread_s],
        "rounds": len(times["ours"].seconds),
    }
    ratio = ours / one
    floor = "one read of the weights"
    return Row("many", 1e3 * ours, "ms", "one candidate, ms", 1e3 * one, ratio, floor, ratio <= MOST, more)  # fmt: skip
