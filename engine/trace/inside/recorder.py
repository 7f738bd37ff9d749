"""The child's graph under construction: nodes without duplicates, packed for the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..allowed import is_allowed, unsupported
from ..arguments import packed as packed_plain
from ..bounds import MAX_CONSTANT_ELEMENTS, MAX_NODES, Budget
from ..schema import PLAIN, argument_fault
from ..tree import found, mapped
from ..trust import has_rule, trust_fault
from ..wire import DTYPES, dtype_name, pack_tensor

KNOWN = {getattr(torch, name) for name in DTYPES}
# What spoilt the trace. A program may catch it and go on, but its trace is worth nothing then.
spoilt: list[Unsupported] = []
# Errors that torch never raises on tensors; they come from our own code.
BUGS = (AssertionError, AttributeError, KeyError, NameError, RecursionError)


class Unsupported(BaseException):
    """The tracer cannot say this. It stands even if the program catches it: it is raised again."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        spoilt.append(self)


def end_if_spoilt() -> None:
    """Raises what spoilt the trace, if anything did."""
    if spoilt:
        raise spoilt[0]


class TooLarge(Unsupported):
    """A tensor is larger than intermediates may be."""


class TooMuchWork(Unsupported):
    """The estimated work is too much: a timeout that is known beforehand."""


def check_arguments(overload: Any, args: Any, kwargs: Any) -> None:
    """Refuses arguments that the verifier would refuse."""
    if why := argument_fault(overload, args, kwargs):
        raise Unsupported(why)
    if has_rule(overload):
        metas = mapped(lambda node: node.meta, (args, kwargs), Node)
        if why := trust_fault(overload, *metas):
            raise Unsupported(why)


@dataclass(eq=False, slots=True)
class Node:
    """One value; `meta` is a meta tensor, a list of them, or None while its size is asked for."""

    index: int
    op: Any  # "input", "const", "item", or an overload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    meta: Any

    def __repr__(self) -> str:
        return f"%{self.index}"


class Recorder:
    """The nodes so far. Equal operations on equal arguments are one node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.num_sent = 0
        self._known: dict[str, Node] = {}
        self._budget = Budget()

    def add(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Node:
        # repr is exact, and it tells 1, 1.0 and True apart.
        key = f"{op}{list(args)}{kwargs}"
        if key not in self._known:
            if len(self.nodes) >= MAX_NODES:
                raise Unsupported(
                    f"more than {MAX_NODES} operations: use operations on whole tensors, not loops "
                    "over their parts"
                )
            self._check(str(op), args, kwargs, found(meta, Tensor))
            if not isinstance(op, str):
                check_arguments(op, args, kwargs)
            self._known[key] = Node(len(self.nodes), op, tuple(args), kwargs, meta)
            self.nodes.append(self._known[key])
        return self._known[key]

    def _check(self, op: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
        """Refuses what the verifier would refuse. Here the program's line is known."""
        if not is_allowed(op):
            raise Unsupported(unsupported(op))
        if op == "input":
            self._budget.inputs_bytes += sum(4 * t.numel() for t in outputs)
        if why := self._budget.bad_result(op, outputs):
            raise Unsupported(why)
        if why := self._budget.fits(op, outputs):
            raise TooLarge(why)
        inputs = [t for node in found((args, kwargs), Node) for t in found(node.meta, Tensor)]
        if why := self._budget.charge(op, args, inputs, outputs):
            raise TooMuchWork(why)

    def const(self, real: Tensor) -> Node:
        """A real tensor as a node: a `full` if all of its numbers are equal."""
        if real.numel() > MAX_CONSTANT_ELEMENTS:
            raise Unsupported(
                f"a constant of {real.numel()} numbers, at most {MAX_CONSTANT_ELEMENTS}: make it "
                "by torch operations on the tensors in model_dict"
            )
        numbers = real.flatten().tolist()
        meta = torch.empty(real.shape, dtype=real.dtype, device="meta")
        # By repr, because 0.0 and -0.0 are equal.
        if numbers and all(x == numbers[0] for x in numbers) and len(set(map(repr, numbers))) == 1:
            shape, kwargs = list(real.shape), {"dtype": real.dtype}
            return self.add(torch.ops.aten.full.default, (shape, numbers[0]), kwargs, meta)
        return self.add("const", (Constant(real),), {}, meta)

    def news(self) -> list[Any]:
        """Packs the nodes that were not sent yet."""
        fresh, self.num_sent = self.nodes[self.num_sent :], len(self.nodes)
        return [packed_node(node) for node in fresh]


class Constant:
    """A real tensor as an argument. Its repr is its content, which `Recorder.add` compares."""

    def __init__(self, value: Tensor) -> None:
        self.value = value.detach().clone()

    def __repr__(self) -> str:
        return f"{self.value.dtype}{list(self.value.shape)}{self.value.flatten().tolist()}"


def packed_node(node: Node) -> list[Any]:
    """[op, args, kwargs, shape, dtype] as plain data. shape is None for several results."""
    one = isinstance(node.meta, Tensor)
    shape = list(node.meta.shape) if one else None
    dtype = dtype_name(node.meta.dtype) if one else None
    return [str(node.op), packed(list(node.args)), packed(node.kwargs), shape, dtype]


def packed(x: Any) -> Any:
    """An argument as plain data. Floats are hexadecimal text, so that inf and nan survive."""
    if isinstance(x, Node):
        return {"n": x.index}
    if isinstance(x, Constant):
        return {"c": pack_tensor(x.value)}
    if isinstance(x, (list, tuple)):
        return [packed(y) for y in x]
    if isinstance(x, dict):
        return {str(k): packed(y) for k, y in x.items()}
    if not isinstance(x, PLAIN):
        raise Unsupported(f"an argument of type {type(x).__name__}")
    return packed_plain(x)
