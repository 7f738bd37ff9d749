"""The driver's side of the boundary: turns a child's raw nodes into a verified TraceGraph.

Every op must be on the list, and every argument plain data within bounds or an earlier node. Every shape is
worked out again on meta tensors. Sizes that depend on values come from who runs the op: a sweep, or a locked
child.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...kernels.compiler.clock import check
from ..errors import Rejected, Rejection, first_line
from .allowed import ALLOWED, DRAWS, unsupported
from .answered import Answered
from .arguments import malformed, unpacked
from .bounds import MAX_NODES, MAX_VERIFY_CPU_S, Budget
from .graph import Ref, TraceGraph, TraceNode
from .meta_memo import meta_of
from .ops import LAYOUT, argument_names
from .replay import overload_of
from .schema import argument_fault
from .steps import Steps
from .tree import found
from .trust import trust_fault
from .wire import dtype_name

MAX_SEED = 1 << 56
COUNT = "aten.count_nonzero.default"
LEAVES = ("input", "item")


class GraphReader:
    """Takes a child's nodes in pieces, verifies each once, and makes graphs of them."""

    def __init__(
        self, names: Sequence[str], shape: Sequence[int], own: tuple[int, ...] | None = None
    ) -> None:
        self.names, self.shape, self.own = tuple(names), tuple(shape), own
        self.nodes: list[TraceNode] = []
        # A meta tensor, a list of them, or None while the size is unknown.
        self.metas: list[Any] = []
        self.cpu_s, self.answered = 0.0, Answered()
        self.budget = Budget(4 * math.prod(self.shape) * len(self.names))
        self._steps = Steps(self.names, self.shape, self.own)

    def extend(self, raw: Any) -> None:
        """Verifies and appends nodes. Raises Rejected, and OutOfTime where a limit of the caller is over."""
        if not isinstance(raw, list) or len(self.nodes) + len(raw) > MAX_NODES:
            raise malformed("not a list of nodes, or too many")
        began = time.thread_time()
        if (known := self._steps.again(raw)) is None:
            self._verify(raw)
            self._steps.keep(raw, self.nodes, self.metas, self.budget)
        else:
            nodes, metas, self.budget = known
            self.nodes += nodes
            self.metas += metas
            self.cpu_s += time.thread_time() - began
            check_time(self.cpu_s, len(self.nodes))

    def _verify(self, raw: list[Any]) -> None:
        for item in raw:
            check_form(item)
            began = time.thread_time()
            try:
                self._append(*item)
            except Rejected:
                raise
            except Exception as error:
                raise refused_by_torch(item[0], error) from None
            self.cpu_s += time.thread_time() - began
            check_time(self.cpu_s, len(self.nodes))

    def graph(self, outputs: Sequence[Any]) -> TraceGraph:
        """A graph of all nodes so far with these outputs. Raises Rejected."""
        check_outputs(outputs, len(self.nodes))
        make = partial(self._graph, self.answered.known(self.nodes), tuple(outputs))
        return make() if self.answered.has_constants else self._steps.graph(tuple(outputs), make)

    @property
    def is_plain(self) -> bool:
        """Tells whether all that was said is the same for each tensor of the shape."""
        return self._steps.is_plain and not self.answered.has_constants

    def mask_count(self, index: int) -> TraceGraph | None:
        """For x[mask] the question how often the mask holds, which tells its size; else None."""
        node = self.nodes[index]
        if (mask := mask_of(node)) is None or (shape := self.nodes[mask.index].shape) is None:
            return None
        if self._metas_of(node.args[0]).shape[: len(shape)] != shape:
            raise malformed(f"a mask of {shape}")
        nodes = (*self.answered.known(self.nodes), TraceNode(COUNT, (mask,), {}, (), torch.int64))
        return self._graph(nodes, (len(self.nodes),))

    def _graph(self, nodes: tuple[TraceNode, ...], outputs: tuple[int, ...]) -> TraceGraph:
        return TraceGraph(self.names, self.shape, nodes, outputs, self.own)

    def chosen(self, index: int, count: int) -> list[Tensor]:
        """A meta tensor, in a list, for x[mask] if the mask holds `count` times."""
        mask = mask_of(self.nodes[index])
        assert mask is not None
        return [rows_of(self._metas_of(self.nodes[index].args[0]), self._metas_of(mask), count)]

    def set_sizes(self, index: int, results: list[Tensor]) -> None:
        """Takes the sizes of an op's results, which were found by running it. Raises Rejected."""
        self._settle(index, metas_like(results, self.nodes[index].op))

    def _append(self, op: str, args: Any, kwargs: Any, shape: Any, dtype: Any) -> None:
        num_nodes = len(self.nodes)
        args, kwargs = arguments_of(args, kwargs, num_nodes)
        if op == "const":
            args, meta = constant_of(args, kwargs)
        else:
            meta = self._meta(op, args, kwargs)
        self._charge(op, args, kwargs, meta)
        self.nodes.append(TraceNode(op, args, kwargs))
        self.metas.append(None)
        if meta is not None:
            self._settle(num_nodes, meta)
            check_claim(self.nodes[-1], shape, dtype)

    def _settle(self, index: int, meta: Any) -> None:
        node = self.nodes[index]
        self.metas[index] = meta
        if why := self.budget.bad_result(node.op, found(meta, Tensor)):
            raise malformed(why)
        if why := self.budget.fits(node.op, found(meta, Tensor)):
            raise Rejected(Rejection("memory", why))
        if isinstance(meta, Tensor):
            shape, dtype = tuple(meta.shape), meta.dtype
            self.nodes[index] = TraceNode(node.op, node.args, node.kwargs, shape, dtype)

    def _charge(self, op: str, args: Any, kwargs: Any, meta: Any) -> None:
        inputs = found(self._metas_of((args, kwargs)), Tensor) if op != "const" else []
        if why := self.budget.charge(op, args, inputs, found(meta, Tensor)):
            raise Rejected(Rejection("timeout", why))

    def _meta(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op in LEAVES and kwargs:
            raise malformed(f"{op} with keyword arguments")
        if op == "input":
            if len(args) != 1 or args[0] not in self.names:
                raise malformed(f"input {args}")
            return torch.empty(self.shape, device="meta")
        if op == "item":
            return item_of(self.metas[args[0].index], *args[1:])
        return self._overload_meta(op, args, kwargs)

    def _overload_meta(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        overload = allowed_overload(op)
        check_arguments(op, args, kwargs)
        if why := argument_fault(overload, args, kwargs):
            raise malformed(why)
        if not all(isinstance(self.metas[r.index], Tensor) for r in found((args, kwargs), Ref)):
            raise malformed(f"{op} of a value of unknown size, or of several results as one")
        if torch.Tag.dynamic_output_shape in overload.tags:
            return self._dynamic(overload, args)
        metas, given = self._metas_of(args), self._metas_of(on_meta(overload, kwargs))
        if why := trust_fault(overload, metas, given):
            raise malformed(why)
        return meta_of(overload, metas, given)

    def _dynamic(self, overload: Any, args: tuple[Any, ...]) -> Any:
        """A meta tensor for an index without a mask; None if the size depends on values."""
        indices = args[1] if len(args) > 1 and isinstance(args[1], tuple) else ()
        masks = [
            r for r in indices if isinstance(r, Ref) and self.nodes[r.index].dtype is torch.bool
        ]
        if overload is torch.ops.aten.index.Tensor and not masks:
            return meta_of(overload, self._metas_of(args), {})
        return None

    def _metas_of(self, x: Any) -> Any:
        if isinstance(x, Ref):
            meta = self.metas[x.index]
            if meta is None:
                raise malformed("a value of unknown size is used")
            return meta
        if isinstance(x, tuple):
            return [self._metas_of(y) for y in x]
        return {k: self._metas_of(v) for k, v in x.items()} if isinstance(x, dict) else x


def check_outputs(outputs: Sequence[Any], num_nodes: int) -> None:
    """Raises Rejected unless all outputs are nodes."""
    for output in outputs:
        if type(output) is not int or not 0 <= output < num_nodes:
            raise malformed(f"output {output!r}")


def check_form(item: Any) -> None:
    """Raises Rejected for an item that is no node."""
    if not (isinstance(item, list) and len(item) == 5 and isinstance(item[0], str)):
        raise malformed("a node is [op, args, kwargs, shape, dtype]")


def arguments_of(args: Any, kwargs: Any, num_nodes: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A node's arguments by position and by name. Raises Rejected."""
    args, kwargs = unpacked(args, num_nodes), unpacked(kwargs or {}, num_nodes)
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise malformed("arguments")
    return args, kwargs


def constant_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Tensor]:
    """The numbers and the shape of a constant, and its meta tensor. Raises Rejected."""
    if len(args) != 1 or not isinstance(args[0], Tensor) or kwargs:
        raise malformed("const takes one constant")
    meta = torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
    return (tuple(args[0].flatten().tolist()), tuple(meta.shape)), meta


def check_claim(node: TraceNode, shape: Any, dtype: Any) -> None:
    """Raises Rejected where the child took a node for another shape or type."""
    claimed = None if shape is None else (tuple(shape), dtype)
    if node.shape is not None and claimed not in (None, (node.shape, dtype_name(node.dtype))):
        raise malformed(f"{node.op} is {node.shape}, not {claimed}")


def rows_of(x: Tensor, mask: Tensor, count: int) -> Tensor:
    """A meta tensor for x[mask] if the mask holds `count` times."""
    return torch.empty((count, *x.shape[mask.dim() :]), dtype=x.dtype, device="meta")


def metas_like(results: list[Tensor], op: str) -> Any:
    """Meta tensors of an op's results, or of its only one. Raises Rejected for another number of them."""
    expected = len(allowed_overload(op)._schema.returns)
    if len(results) != expected:
        raise malformed(f"{len(results)} results of {op}")
    metas = [torch.empty(r.shape, dtype=r.dtype, device="meta") for r in results]
    return metas if expected > 1 else metas[0]


def item_of(metas: Any, position: Any) -> Any:
    """One of an op's several results. Raises Rejected."""
    if not isinstance(metas, (list, tuple)) or type(position) is not int or position < 0:
        raise malformed("item of a single result")
    return metas[position]


def check_time(cpu_s: float, num_nodes: int) -> None:
    """Raises Rejected where verifying took too long, and OutOfTime where a limit of the caller is over."""
    if cpu_s > MAX_VERIFY_CPU_S:
        what = f"{num_nodes} nodes took more than {MAX_VERIFY_CPU_S:g} s to verify"
        raise Rejected(Rejection("timeout", f"{what}: use fewer operations on whole tensors"))
    check()


def refused_by_torch(op: str, error: Exception) -> Rejected:
    """Torch's checks may raise anything: a child wrote the arguments."""
    return malformed(f"{op[:80]}: {type(error).__name__}: {first_line(error)}")


def allowed_overload(op: str) -> Any:
    """The torch function of an op's name. Raises Rejected unless it is allowed."""
    if op not in ALLOWED:
        raise Rejected(Rejection("unsupported", unsupported(op)))
    return overload_of(op)


def check_arguments(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises Rejected for a wrong key of a draw, and for what only the driver may choose."""
    draw = kwargs.get("draw", 0)
    if ("draw" in kwargs) != (base_name(op) in DRAWS) or not is_seed(draw):
        raise malformed(f"{op} and draw {str(kwargs.get('draw'))[:80]}")
    if LAYOUT & set(kwargs) or found((args, kwargs), Tensor):
        raise malformed(f"{op} with a device, layout or constant")


def on_meta(overload: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments with which the overload works out shapes only."""
    given = {k: v for k, v in kwargs.items() if k != "draw"}
    names = argument_names(overload)
    if "draw" in kwargs and "generator" in names:
        given["generator"] = None
    if "device" in names:
        given["device"] = torch.device("meta")
    return given


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
