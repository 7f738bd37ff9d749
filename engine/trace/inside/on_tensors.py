"""Computes on real tensors in the locked child: a verified graph by torch, or the function itself.

A request names a tensor by the parts of the child's maps where base and experts are. The last map is
shared with the driver, for an update.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import first_line
from ..draws import seed_all
from ..graph import TraceGraph
from ..packing import parse
from ..replay import TORCH_ERRORS, replay_flat
from ..wire import dtype_name, pack_tensor
from .faults import WrongShape, kind_of
from .program import load

# Mapped memory; all but the last is for reading only.
Memory = ctypes.Array[ctypes.c_char]
# The graph that the latest request brought; most tensors of a candidate share theirs.
latest: list[TraceGraph] = []


def serve_tensor(request: dict[str, Any], maps: Sequence[Memory]) -> dict[str, Any]:
    """Does what `do` says: "values", "sizes" or "update" by a graph, or an update by a "function".

    An error that torch raises on a graph's numbers is an answer: {"error": text}.
    """
    vectors = task_vectors(request, maps)
    if request["do"] == "function":
        return keep(by_function(request, vectors), vectors, maps)
    if request["graph"] is not None:
        latest[:] = [parse(request["graph"])]
    try:
        results = replay_flat(latest[0], vectors)
    except TORCH_ERRORS as error:
        if kind_of(error) == "memory":
            raise
        return {"status": "ok", "error": first_line(error)}
    if request["do"] == "update":
        return keep(results[0], vectors, maps)
    if request["do"] == "sizes":
        return {"status": "ok", "sizes": [[list(r.shape), dtype_name(r.dtype)] for r in results]}
    # Shape functions of torch promote a few mixed calls otherwise than it computes them.
    nodes = [latest[0].nodes[output] for output in latest[0].outputs]
    values = [r.to(node.dtype) for r, node in zip(results, nodes, strict=True)]
    return {"status": "ok", "values": [pack_tensor(value) for value in values]}


def task_vectors(request: dict[str, Any], maps: Sequence[Memory]) -> dict[str, Tensor]:
    """The float32 task vectors by expert, in the shape of the request. They are this process's own."""
    base, *experts = (mapped(maps, part) for part in request["parts"])
    shape, base = request["shape"], base.float()
    vectors = [(expert.float() - base).reshape(shape) for expert in experts]
    return dict(zip(request["names"], vectors, strict=True))


def mapped(maps: Sequence[Memory], part: Sequence[Any]) -> Tensor:
    """A tensor in a map: [number of the map, bytes before it, dtype, count of elements]."""
    number, offset, dtype, count = part
    if not count:
        return torch.empty(0, dtype=getattr(torch, dtype))
    return torch.frombuffer(maps[number], dtype=getattr(torch, dtype), count=count, offset=offset)


def by_function(request: dict[str, Any], vectors: dict[str, Tensor]) -> Tensor:
    """Runs the program itself on the task vectors, which it may change."""
    seed_all(request["seed"])
    result = load(request["code"])(vectors, torch.device("cpu"), **request["params"])
    if not isinstance(result, torch.Tensor):
        raise WrongShape(f"merge_models returned {type(result).__name__}, not a tensor")
    shape = tuple(request["shape"])
    if tuple(result.shape) != shape:
        raise WrongShape(f"the result has shape {tuple(result.shape)}, the tensor {shape}")
    return result.detach()


def keep(update: Tensor, vectors: dict[str, Tensor], maps: Sequence[Memory]) -> dict[str, Any]:
    """Writes an update as float32 where the driver reads it."""
    count = math.prod(next(iter(vectors.values())).shape)
    if count:
        torch.frombuffer(maps[-1], dtype=torch.float32, count=count).copy_(update.reshape(-1))
    return {"status": "ok"}
