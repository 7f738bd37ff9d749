"""`new`: a program that was never seen, from its graph to its result, beside torch.compile and eager.

A screening pays this: each candidate is another program, and each is run once over the weights. The
programs have different operations, so no cache knows them; torch.compile starts with empty caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from ...kernels.backends import get_backend
from ...kernels.compiler.passes import canonical, compile_graph
from ...kernels.cpu.purposes import encode
from ...kernels.ir import Builder, KernelGraph, Op
from ...kernels.tensors import TensorSet
from ..registry import Row
from .apply import make_tensors

STEPS: dict[str, tuple[Op, Callable[[torch.Tensor], torch.Tensor]]] = {
    "abs": (Op.ABS, torch.abs),
    "neg": (Op.NEG, torch.neg),
    "sqrt of abs": (Op.SQRT, lambda x: x.abs().sqrt()),
}
PROGRAMS = (("neg", "abs"), ("abs", "neg", "neg"), ("neg", "sqrt of abs"))
# How many times as fast as torch.compile, compiling included.
LEAST = 10.0


def graph_of(steps: tuple[str, ...]) -> KernelGraph:
    """Graph of the weighted sum of three task vectors, followed by these steps."""
    b = Builder()
    total = b.input("a")
    for name, weight in (("b", 0.5), ("c", 0.25)):
        total = b.add(Op.ADD, total, b.add(Op.MUL, b.input(name), b.const(weight)))
    for step in steps:
        op = STEPS[step][0]
        total = b.add(op, b.add(Op.ABS, total) if op is Op.SQRT else total)
    return b.graph(total)


def eager_of(steps: tuple[str, ...]) -> Callable[[TensorSet], torch.Tensor]:
    def run(tensors: TensorSet) -> torch.Tensor:
        base = tensors.base.float()
        a, b, c = (expert.float() - base for expert in tensors.experts.values())
        total = a + b * 0.5 + c * 0.25
        for step in steps:
            total = STEPS[step][1](total)
        return (base + total).to(tensors.base.dtype)

    return run


def ours(steps: tuple[str, ...], tensors: TensorSet) -> torch.Tensor:
    out = torch.empty_like(tensors.base)
    plan = compile_graph(canonical(graph_of(steps)))
    assert get_backend("cpu").merge(plan, tensors, out)
    return out


def seconds_of(function: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    began = time.perf_counter()
    found = function()
    return time.perf_counter() - began, found


def seconds_once(steps: tuple[str, ...], tensors: TensorSet) -> dict[str, float]:
    """Seconds of one new program in each way; checks that the results agree."""
    from torch._inductor.utils import fresh_cache

    encode.cache_clear()
    torch.compiler.reset()
    run = eager_of(steps)
    spent, found = dict[str, float](), dict[str, torch.Tensor]()
    spent["ours"], found["ours"] = seconds_of(lambda: ours(steps, tensors))
    with fresh_cache():
        compiled = torch.compile(run, dynamic=False)
        spent["compile"], found["compile"] = seconds_of(lambda: compiled(tensors))
    spent["eager"], found["eager"] = seconds_of(lambda: run(tensors))
    for name in ("compile", "eager"):
        off = found["ours"].view(torch.int16).int() - found[name].view(torch.int16).int()
        assert off.abs().max() <= 1, f"{off.abs().max()} units in the last place from {name}"
    return spent


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Median milliseconds of a new program over one MLP tensor; each program runs once."""
    tensors = make_tensors(0)
    # The first call of all loads the extension.
    ours(("abs",), tensors)
    spent = []
    for done, steps in enumerate(PROGRAMS, 1):
        spent.append(seconds_once(steps, tensors))
        update(done, len(PROGRAMS))
    mine, theirs, eager = (median(s[name] for s in spent) for name in ("ours", "compile", "eager"))
    more = {"x_eager_torch": eager / mine, "programs": len(PROGRAMS)}
    ratio, floor = theirs / mine, "one pass over the tensor"
    return Row("new", 1e3 * mine, "ms", "torch.compile, ms", 1e3 * theirs, ratio, floor, ratio >= LEAST, more)  # fmt: skip
