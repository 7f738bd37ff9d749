"""The vocabulary of merge graphs: one op enum, one frozen node, one frozen graph.

A graph says what one merge program does to one tensor. Its inputs are the task vectors of that
tensor, all seen as a matrix [R, C] (a 1-D tensor is [1, C]). Every value is float32; truth values
are 0.0 and 1.0. A small value may be DOUBLE. A value lives in one of four spaces:

    FULL [R, C]    ROW [R, 1]    COL [1, C]    SCALAR []

An element-wise op joins the spaces of its arguments (ROW with COL is FULL). A reduction has the
space of what is left: FULL -> SCALAR runs over everything, FULL -> ROW over each row's columns,
FULL -> COL over each column's rows, ROW or COL -> SCALAR over that vector. Small stacked axes (the
experts) do not exist here: lowering has unrolled them. reference.py says what each op means, verify.py
what is legal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any


class Space(StrEnum):
    """The shape of a value, for a tensor of R rows and C columns."""

    FULL = "full"
    ROW = "row"
    COL = "col"
    SCALAR = "scalar"


class Op(StrEnum):
    """What a node computes. Where the name does not say it, a comment does."""

    # Leaves. Their attributes are in parentheses.
    INPUT = "input"  # (name,): the task vector of that expert, FULL
    CONST = "const"  # (value,): a number, SCALAR
    PARAM = "param"  # (slot,): a number or vector that is known only at the call, never FULL
    IN_RANGE = "in_range"  # (start, stop, step): 1 where the row, column or flat index is in it
    INDEX = "index"  # (): the row in space ROW, the column in COL, both from 0
    RANDOM = "random"  # (kind, seed, draw): uniform [0, 1) or normal numbers by Philox, FULL

    # Element-wise, one argument.
    NEG = "neg"
    ABS = "abs"
    SIGN = "sign"  # gives -1, 0 or 1; NaN stays
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    EXP = "exp"
    EXPM1 = "expm1"
    LOG = "log"
    LOG1P = "log1p"
    SIN = "sin"
    COS = "cos"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    TANH = "tanh"
    ERF = "erf"
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"  # half to even
    TRUNC = "trunc"
    ROUND_BF16 = "round_bf16"  # to the nearest bfloat16 and back
    ROUND_F16 = "round_f16"  # to the nearest float16 and back

    # Element-wise, two arguments.
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    POW = "pow"
    MAX = "max"  # NaN wins, as in torch.maximum
    MIN = "min"
    MOD = "mod"  # has the divisor's sign, as in torch.remainder
    ATAN2 = "atan2"
    LT = "lt"  # comparisons give 1.0 or 0.0
    LE = "le"
    EQ = "eq"
    NE = "ne"

    # Element-wise, three arguments.
    WHERE = "where"  # gives the second argument where the first is not 0, else the third

    # Reductions: from the argument's space to the node's.
    REDUCE_SUM = "reduce_sum"
    REDUCE_MAX = "reduce_max"  # NaN wins
    REDUCE_MIN = "reduce_min"
    KTH = "kth"  # (k,): the k-th smallest, from 1; NaN counts as the largest


LEAVES = frozenset({Op.INPUT, Op.CONST, Op.PARAM, Op.IN_RANGE, Op.INDEX, Op.RANDOM})
UNARY = frozenset(
    {
        *(Op.NEG, Op.ABS, Op.SIGN, Op.SQRT, Op.RSQRT, Op.EXP, Op.EXPM1, Op.LOG, Op.LOG1P),
        *(Op.SIN, Op.COS, Op.ASIN, Op.ACOS, Op.ATAN, Op.TANH, Op.ERF, Op.FLOOR, Op.CEIL),
        *(Op.ROUND, Op.TRUNC, Op.ROUND_BF16, Op.ROUND_F16),
    }
)
BINARY = frozenset(
    {
        *(Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.POW, Op.MAX, Op.MIN, Op.MOD, Op.ATAN2),
        *(Op.LT, Op.LE, Op.EQ, Op.NE),
    }
)
TERNARY = frozenset({Op.WHERE})
ELEMENTWISE = UNARY | BINARY | TERNARY
REDUCTIONS = frozenset({Op.REDUCE_SUM, Op.REDUCE_MAX, Op.REDUCE_MIN, Op.KTH})
# The attributes of an element-wise op on small values that is computed in float64. It has none otherwise.
DOUBLE = ("double",)
COMMUTATIVE = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN, Op.EQ, Op.NE})


@dataclass(frozen=True)
class Node:
    """One value: the op that computes it, the earlier nodes that the op reads, and its space."""

    op: Op
    args: tuple[int, ...] = ()
    attrs: tuple[Any, ...] = ()  # only str, int and float
    space: Space = Space.SCALAR


@dataclass(frozen=True, eq=False)
class KernelGraph:
    """What one program computes. Arguments stand before the nodes that read them.

    `outputs` are indices into `nodes`. Nothing is checked here: call `verify.verify` on a graph
    that others made. Graphs are equal where their attributes are the same by type and digits: 0.0 is
    not -0.0, 1 is not 1.0, and NaN is NaN.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, KernelGraph) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once, because graphs are keys of every cache of compiled code."""
        return hash(self._key)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        nodes = ((n.op, n.args, repr(n.attrs) if n.attrs else "", n.space) for n in self.nodes)
        return (self.outputs, *nodes)

    def to_json(self) -> dict[str, Any]:
        """Return plain data. Floats are hexadecimal text, so that inf, nan and -0.0 survive."""
        rows = [
            [n.op.value, list(n.args), [_pack(a) for a in n.attrs], n.space.value]
            for n in self.nodes
        ]
        return {"nodes": rows, "outputs": list(self.outputs)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> KernelGraph:
        """Return the graph that `to_json` wrote, not checked: verify it before use."""
        nodes = tuple(
            Node(Op(op), tuple(args), tuple(_unpack(a) for a in attrs), Space(space))
            for op, args, attrs, space in data["nodes"]
        )
        return KernelGraph(nodes, tuple(data["outputs"]))

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the graph's text.

        Graphs that `passes.canonical` made have equal fingerprints where they mean the same.
        """
        text = json.dumps(self.to_json(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def exact(value: object) -> object:
    """Return a key that is equal only for the same value: by type and digits, as graphs are."""
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return (type(value), repr(value)) if isinstance(value, (int, float, complex)) else value


def join(*spaces: Space) -> Space:
    """Return the space of an element-wise op on values of these spaces."""
    found = Space.SCALAR
    for space in spaces:
        if space is not found and space is not Space.SCALAR:
            found = space if found is Space.SCALAR else Space.FULL
    return found


def _pack(value: Any) -> Any:
    return {"f": value.hex()} if isinstance(value, float) else value


def _unpack(value: Any) -> Any:
    return float.fromhex(value["f"]) if isinstance(value, dict) else value


class Builder:
    """Makes a graph node by node. Equal nodes are made once, and ops get their spaces here."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(
        self, op: Op, *args: int, attrs: tuple[Any, ...] = (), space: Space | None = None
    ) -> int:
        """Return the index of the node, which is new unless an equal one is there.

        Only leaves and reductions need `space`; an element-wise op joins its arguments' spaces.
        """
        if space is None:
            space = join(*[self.nodes[i].space for i in args])
        # By repr, because 1, 1.0 and True are equal as keys, and so are 0.0 and -0.0.
        key = (op, args, repr(attrs) if attrs else "", space)
        if (index := self._known.get(key)) is None:
            index = self._known[key] = len(self.nodes)
            self.nodes.append(Node(op, args, attrs, space))
        return index

    def copy(self, node: Node, args: Iterable[int], attrs: tuple[Any, ...] | None = None) -> int:
        """Return the index of a node of another graph; `args` are its arguments here, `attrs` replace its own."""
        space = None if node.op in ELEMENTWISE else node.space
        return self.add(node.op, *args, attrs=node.attrs if attrs is None else attrs, space=space)

    def const(self, value: float) -> int:
        """Return the index of a number."""
        return self.add(Op.CONST, attrs=(float(value),), space=Space.SCALAR)

    def input(self, name: str) -> int:
        """Return the index of an expert's task vector."""
        return self.add(Op.INPUT, attrs=(name,), space=Space.FULL)

    def graph(self, *outputs: int) -> KernelGraph:
        """Return all nodes that were made, as a graph with these outputs."""
        return KernelGraph(tuple(self.nodes), tuple(outputs))
