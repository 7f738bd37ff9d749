"""Runs a traced graph by torch on whole tensors: the hybrid tier, and value questions without a kernel.

With `wide` float32 becomes float64 throughout, as in the definition of a program; explicit half and
double stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...kernels import philox
from .graph import Ref, TraceGraph, TraceNode, references
from .ops import argument_names, run

TORCH_ERRORS = (RuntimeError, IndexError, ValueError)  # raised by torch on numbers that it refuses


def replay(graph: TraceGraph, inputs: Mapping[str, Tensor], wide: bool = False) -> list[Tensor]:
    """Values of the outputs. `inputs` are float32 task vectors of the graph's shape, by name."""
    return Replayer(graph, inputs, wide).values(graph.outputs)


def replay_flat(graph: TraceGraph, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Values of the outputs, where an output that is a list gives all of its tensors."""
    results = replay(graph, inputs)
    return [r for one in results for r in (one if isinstance(one, (tuple, list)) else [one])]


class Replayer:
    """Computes the values that are needed, and drops each after its last reader."""

    def __init__(self, graph: TraceGraph, inputs: Mapping[str, Tensor], wide: bool) -> None:
        self.graph, self.inputs = graph, inputs
        self.widen = {torch.float32: torch.float64} if wide else {}

    def values(self, outputs: Iterable[int]) -> list[Any]:
        wanted = list(outputs)
        order = self.graph.needed(wanted)
        readers = dict.fromkeys(order, 0)
        for index in order:
            for arg in references(self.graph.nodes[index]):
                readers[arg] += 1
        for index in wanted:
            readers[index] += 1
        known: dict[int, Any] = {}
        for index in order:
            node = self.graph.nodes[index]
            known[index] = self.compute(node, known)
            for arg in references(node):
                readers[arg] -= 1
                if readers[arg] == 0:
                    del known[arg]
        return [known[index] for index in wanted]

    def compute(self, node: TraceNode, known: Mapping[int, Any]) -> Any:
        if node.op == "input":
            vector = self.inputs[node.args[0]]
            return vector.to(self.widen.get(vector.dtype, vector.dtype))
        if node.op == "const":
            numbers, shape = node.args
            assert node.dtype is not None
            dtype = self.widen.get(node.dtype, node.dtype)
            return torch.tensor(numbers, dtype=dtype).reshape(shape)
        args = [filled(a, known) for a in node.args]
        if node.op == "item":
            return args[0][args[1]]
        kwargs = {k: filled(v, known) for k, v in node.kwargs.items()}
        if "dtype" in kwargs:
            kwargs["dtype"] = self.widen.get(kwargs["dtype"], kwargs["dtype"])
        if "draw" in kwargs:
            return draw(self.graph, node, args, kwargs)
        return run(overload_of(node.op), args, kwargs)


def draw(graph: TraceGraph, node: TraceNode, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A random draw: Philox numbers if kernels draw them too, else torch's, seeded by the key."""
    overload, seed = overload_of(node.op), kwargs.pop("draw")
    form = DRAWS.get(node.op.split(".")[1])
    if form is None:
        return torch_draw(overload, args, kwargs, seed)
    size = torch.Size(node.shape if node.shape is not None else args[0].shape)

    def numbers(kind: str) -> Tensor:
        return philox_numbers(kind, seed, size, graph.shape)

    found = form(numbers, *args)
    return found.to(node.dtype) if isinstance(found, Tensor) else found


def philox_numbers(kind: str, seed: int, size: torch.Size, shape: tuple[int, ...]) -> Tensor:
    """Philox numbers. A stack of tensors of the graph's shape takes one draw per entry."""
    one = math.prod(shape)
    stacked = len(size) > len(shape) and tuple(size[-len(shape) :]) == shape
    count = size.numel() // one if stacked and one else 1
    make = philox.uniform if kind == "uniform" else philox.normal
    drawn = [make(seed, i, size.numel() // count) for i in range(count)]
    return torch.cat(drawn).reshape(size)


def exponential(numbers: Tensor, rate: float) -> Tensor:
    """Exponential numbers of uniform ones. None is zero: a program may take their logarithm."""
    return -torch.log1p(-numbers.clamp_min(philox.LEAST_UNIFORM)) / rate


def dropped_out(numbers: Any, x: Tensor, p: float, train: bool = True) -> tuple[Tensor, Tensor]:
    keep = 1.0 - p if train else 1.0
    kept = numbers("uniform") < keep
    return x * kept * (1.0 / keep if keep else 0.0), kept


# Base name -> form(numbers, arguments...). The kernels' side is in lower/rules/draws.py.
DRAWS: dict[str, Any] = {
    "rand": lambda n, *_: n("uniform"),
    "rand_like": lambda n, *_: n("uniform"),
    "randn": lambda n, *_: n("normal"),
    "randn_like": lambda n, *_: n("normal"),
    "uniform": lambda n, x, low=0.0, high=1.0: n("uniform") * (high - low) + low,
    "normal_functional": lambda n, x, mean=0.0, std=1.0: n("normal") * std + mean,
    "normal": lambda n, mean=0.0, std=1.0, *_: n("normal") * std + mean,
    "bernoulli": lambda n, x, p=None: n("uniform") < (x if p is None else p),
    "exponential": lambda n, x, rate=1.0: exponential(n("uniform"), rate),
    "native_dropout": dropped_out,
}


def torch_draw(overload: Any, args: list[Any], kwargs: dict[str, Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if "generator" in argument_names(overload):
            kwargs["generator"] = None
        return run(overload, args, kwargs)


def filled(x: Any, known: Mapping[int, Any]) -> Any:
    if isinstance(x, Ref):
        return known[x.index]
    return [filled(y, known) for y in x] if isinstance(x, tuple) else x


@cache
def overload_of(op: str) -> Any:
    """The torch function of an op's name: "aten.mul.Tensor" is torch.ops.aten.mul.Tensor."""
    _, name, overload = op.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)
