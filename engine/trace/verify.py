"""The parent's side of the boundary: raw nodes in, a verified TraceGraph out.

Every op must be on the allow-list and functional, every argument plain data or an earlier node, and
every shape is worked out again on meta tensors. Sizes that rest on values are the engine's own.
"""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import Rejection
from .allowed import RANDOM, is_allowed, unsupported
from .bounds import (
    MAX_ARGUMENT_DEPTH,
    MAX_ARGUMENTS,
    MAX_CONSTANT_ELEMENTS,
    MAX_NODES,
    MAX_VERIFY_CPU_S,
    Budget,
)
from .graph import Ref, TraceGraph, TraceNode
from .ops import LAYOUT, meta_run
from .replay import overload_of
from .tree import found
from .wire import unpack_tensor

DTYPES = {
    *("float32", "float64", "float16", "bfloat16", "bool"),
    *("uint8", "int8", "int16", "int32", "int64", "complex64", "complex128"),
}
MAX_SEED = 1 << 56
COUNT = "aten.count_nonzero.default"


class GraphFault(ValueError):
    """A graph that a child must not send; carries the rejection."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(kind, detail)


class GraphReader:
    """Takes a child's nodes in pieces, verifies each once, and hands out graphs of them."""

    def __init__(self, names: Sequence[str], shape: Sequence[int]) -> None:
        self.names, self.shape = tuple(names), tuple(shape)
        self.nodes: list[TraceNode] = []
        self.metas: list[Any] = []  # a meta tensor, a list of them, or None: size not yet known
        self.cpu_s = 0.0
        self.budget = Budget(4 * math.prod(self.shape) * len(self.names))

    def extend(self, raw: Any) -> None:
        """Verify and append nodes. Raises GraphFault."""
        if not isinstance(raw, list) or len(self.nodes) + len(raw) > MAX_NODES:
            raise GraphFault("violation", "malformed graph: not a list of nodes, or too many")
        for item in raw:
            if not (isinstance(item, list) and len(item) == 5 and isinstance(item[0], str)):
                raise GraphFault(
                    "violation", "malformed graph: a node is [op, args, kwargs, shape, dtype]"
                )
            began = time.thread_time()
            try:
                self._append(*item)
            except GraphFault:
                raise
            except (
                Exception
            ) as error:  # whatever torch's checks raise: a child wrote these arguments
                words = f"{item[0][:80]}: {type(error).__name__}: {str(error)[:200]}"
                raise GraphFault("violation", f"malformed graph: {words}") from None
            self.cpu_s += time.thread_time() - began
            if self.cpu_s > MAX_VERIFY_CPU_S:
                detail = f"{len(self.nodes)} nodes took more than {MAX_VERIFY_CPU_S:g} s to verify"
                raise GraphFault("timeout", f"{detail}: use fewer operations on whole tensors")

    def graph(self, outputs: Sequence[Any]) -> TraceGraph:
        """A graph of all nodes so far with these outputs."""
        for output in outputs:
            if type(output) is not int or not 0 <= output < len(self.nodes):
                raise GraphFault("violation", f"malformed graph: output {output!r}")
        return TraceGraph(self.names, self.shape, tuple(self.nodes), tuple(outputs))

    def mask_count(self, index: int) -> TraceGraph | None:
        """For x[mask], the question how often the mask holds, which no tensor need be made for."""
        node = self.nodes[index]
        if (mask := mask_of(node)) is None or (shape := self.nodes[mask.index].shape) is None:
            return None
        if self._metas_of(node.args[0]).shape[: len(shape)] != shape:
            raise GraphFault("violation", f"malformed graph: a mask of {shape}")
        count = TraceNode(COUNT, (mask,), {}, (), torch.int64)
        return TraceGraph(self.names, self.shape, (*self.nodes, count), (len(self.nodes),))

    def chosen(self, index: int, count: int) -> list[Tensor]:
        """What x[mask] is like, if the mask holds so often."""
        x, mask = self.metas[self.nodes[index].args[0].index], mask_of(self.nodes[index])
        assert mask is not None
        rest = x.shape[self.metas[mask.index].dim() :]
        return [torch.empty((count, *rest), dtype=x.dtype, device="meta")]

    def set_sizes(self, index: int, results: list[Tensor]) -> None:
        """The engine's own answer to what size an op's results have."""
        metas = [torch.empty(r.shape, dtype=r.dtype, device="meta") for r in results]
        several = len(self._overload(self.nodes[index].op)._schema.returns) > 1
        self._settle(index, metas if several else metas[0])

    # ---- one node

    def _append(self, op: str, args: Any, kwargs: Any, shape: Any, dtype: Any) -> None:
        args, kwargs = self._argument(args), self._argument(kwargs or {})
        if not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise GraphFault("violation", "malformed graph: arguments")
        if op == "const":
            real = self._constant(args, kwargs)
            args = (tuple(real.flatten().tolist()), tuple(real.shape))
            meta = torch.empty(real.shape, dtype=real.dtype, device="meta")
        else:
            meta = self._meta(op, args, kwargs)
        self._charge(op, args, kwargs, meta)
        self.nodes.append(TraceNode(op, args, kwargs))
        self.metas.append(None)
        if meta is not None:
            self._settle(len(self.nodes) - 1, meta)
            claimed = None if shape is None else (tuple(shape), dtype)
            node = self.nodes[-1]
            if node.shape is not None and claimed not in (None, (node.shape, name_of(node.dtype))):
                raise GraphFault(
                    "violation", f"malformed graph: {op} is {node.shape}, not {claimed}"
                )

    def _settle(self, index: int, meta: Any) -> None:
        node = self.nodes[index]
        self.metas[index] = meta
        if why := self.budget.fits(node.op, found(meta, Tensor)):
            raise GraphFault("memory", why)
        if isinstance(meta, Tensor):
            shape, dtype = tuple(meta.shape), meta.dtype
            self.nodes[index] = TraceNode(node.op, node.args, node.kwargs, shape, dtype)

    def _charge(self, op: str, args: Any, kwargs: Any, meta: Any) -> None:
        inputs = found(self._metas_of((args, kwargs)), Tensor) if op != "const" else []
        if why := self.budget.charge(op, args, inputs, found(meta, Tensor)):
            raise GraphFault("timeout", why)

    def _meta(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op == "input":
            if len(args) != 1 or args[0] not in self.names:
                raise GraphFault("violation", f"malformed graph: input {args}")
            return torch.empty(self.shape, device="meta")
        if op == "item":
            ref, position = args
            metas = self.metas[ref.index]
            if not isinstance(metas, (list, tuple)) or type(position) is not int or position < 0:
                raise GraphFault("violation", "malformed graph: item of a single result")
            return metas[position]
        return self._overload_meta(op, args, kwargs)

    def _overload_meta(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        overload = self._overload(op)
        plain = {k: v for k, v in kwargs.items() if k != "draw"}
        if ("draw" in kwargs) != (base_name(op) in RANDOM) or not is_seed(kwargs.get("draw", 0)):
            draw = str(kwargs.get("draw"))[:80]
            raise GraphFault("violation", f"malformed graph: {op} and draw {draw}")
        if LAYOUT & set(kwargs) or found((args, kwargs), Tensor):
            raise GraphFault(
                "violation", f"malformed graph: {op} with a device, layout or constant"
            )
        if torch.Tag.dynamic_output_shape in overload.tags:
            return self._dynamic(overload, args)
        if "draw" in kwargs and "generator" in {a.name for a in overload._schema.arguments}:
            plain["generator"] = None
        if any(a.name == "device" for a in overload._schema.arguments):
            plain["device"] = torch.device("meta")
        return meta_run(overload, self._metas_of(args), self._metas_of(plain))

    def _dynamic(self, overload: Any, args: tuple[Any, ...]) -> Any:
        """None where the size rests on values; an index without a mask has a size of its own."""
        indices = args[1] if len(args) > 1 and isinstance(args[1], tuple) else ()
        masks = [
            r for r in indices if isinstance(r, Ref) and self.nodes[r.index].dtype is torch.bool
        ]
        if overload is torch.ops.aten.index.Tensor and not masks:
            return meta_run(overload, self._metas_of(args), {})
        return None

    def _metas_of(self, x: Any) -> Any:
        if isinstance(x, Ref):
            meta = self.metas[x.index]
            if meta is None:
                raise GraphFault("violation", "malformed graph: a value of unknown size is used")
            return meta
        if isinstance(x, tuple):
            return [self._metas_of(y) for y in x]
        return {k: self._metas_of(v) for k, v in x.items()} if isinstance(x, dict) else x

    def _overload(self, op: str) -> Any:
        if not is_allowed(op) or "." not in op:
            raise GraphFault("unsupported", unsupported(op))
        overload = overload_of(op)
        if overload._schema.is_mutable:
            raise GraphFault("violation", f"malformed graph: {op} writes in place")
        return overload

    def _constant(self, args: Any, kwargs: Any) -> Tensor:
        if len(args) != 1 or not isinstance(args[0], Tensor) or kwargs:
            raise GraphFault("violation", "malformed graph: const takes one constant")
        return args[0]

    def _argument(self, x: Any, depth: int = 0) -> Any:
        if depth > MAX_ARGUMENT_DEPTH:
            raise GraphFault("violation", "malformed graph: arguments nest too deeply")
        if x is None or isinstance(x, (bool, int, str)):
            return x
        if isinstance(x, list) and len(x) <= MAX_ARGUMENTS:
            return tuple(self._argument(y, depth + 1) for y in x)
        if isinstance(x, dict):
            return self._tagged(x, depth)
        raise GraphFault("violation", f"malformed graph: argument {type(x).__name__}")

    def _tagged(self, x: dict[str, Any], depth: int) -> Any:
        """{"n": node}, {"f": float}, {"z": complex}, {"t": dtype}, {"c": constant}; else keyword arguments."""
        if depth == 0:
            return {k: self._argument(v, 1) for k, v in x.items()}
        ((tag, value),) = x.items()
        if tag == "n" and type(value) is int and 0 <= value < len(self.nodes):
            return Ref(value)
        if tag == "f" and isinstance(value, str):
            return float.fromhex(value)
        if tag == "z" and isinstance(value, list) and len(value) == 2:
            return complex(*map(float.fromhex, value))
        if tag == "t" and value in DTYPES:
            return getattr(torch, value)
        if tag == "c" and isinstance(value, dict):
            return constant(value)
        raise GraphFault("violation", f"malformed graph: argument {str(x)[:80]}")


def constant(data: dict[str, Any]) -> Tensor:
    """A bounded real tensor."""
    shape, dtype = data["shape"], data["dtype"]
    count = math.prod(shape) if all(type(n) is int and n >= 0 for n in shape) else -1
    if not 0 <= count <= MAX_CONSTANT_ELEMENTS or dtype not in DTYPES:
        raise GraphFault("violation", f"malformed graph: a constant of {shape} {dtype}")
    try:
        raw = base64.b64decode(data["data"], validate=True)
    except (binascii.Error, TypeError) as error:
        raise GraphFault("violation", f"malformed graph: a constant's bytes: {error}") from None
    if len(raw) != count * getattr(torch, dtype).itemsize:
        raise GraphFault("violation", "malformed graph: a constant's length")
    return unpack_tensor(data)


def is_seed(x: Any) -> bool:
    return type(x) is int and 0 <= x < MAX_SEED


def mask_of(node: TraceNode) -> Ref | None:
    """The only mask of x[mask]; None for every other op."""
    if node.op != "aten.index.Tensor" or len(node.args) != 2 or not isinstance(node.args[0], Ref):
        return None
    indices = node.args[1]
    one = isinstance(indices, tuple) and len(indices) == 1 and isinstance(indices[0], Ref)
    return indices[0] if one else None


def base_name(op: str) -> str:
    return op.split(".")[1]


def name_of(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
