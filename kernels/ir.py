"""The vocabulary of merge graphs: one op enum, one frozen node, one frozen graph.

A graph says what one merge program does to one tensor. Its inputs are the task vectors of that
tensor, all seen as a matrix [R, C] (a 1-D tensor is [1, C]). Every value is float32; truth values
are 0.0 and 1.0. A value lives in one of four spaces:

    FULL [R, C]    ROW [R, 1]    COL [1, C]    SCALAR []

An element-wise op joins the spaces of its arguments (ROW with COL is FULL). A reduction has the
space of what is left: FULL -> SCALAR runs over everything, FULL -> ROW over each row's columns,
FULL -> COL over each column's rows, ROW or COL -> SCALAR over that vector. Small stacked axes (the
experts) do not exist here: they are unrolled before. What each op means is in reference.py, what is
legal in verify.py.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any


class Space(StrEnum):
    FULL = "full"
    ROW = "row"
    COL = "col"
    SCALAR = "scalar"


class Op(StrEnum):
    # Leaves. Attributes in parentheses.
    INPUT = "input"  # (name,) the task vector of an expert, FULL
    CONST = "const"  # (value,) a number, SCALAR
    PARAM = "param"  # (index,) a constant lifted out of the structure, SCALAR
    IN_RANGE = "in_range"  # (start, stop, step) 1 where the index is in it: row, column or flat
    INDEX = "index"  # () the row in space ROW, the column in COL, from 0
    RANDOM = "random"  # (kind, seed, draw) uniform [0, 1) or normal numbers by Philox, FULL

    # Element-wise, one argument.
    NEG = "neg"
    ABS = "abs"
    SIGN = "sign"  # -1, 0, 1; NaN stays
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
    MOD = "mod"  # of the divisor's sign, as torch.remainder
    ATAN2 = "atan2"
    LT = "lt"
    LE = "le"
    EQ = "eq"
    NE = "ne"

    # Element-wise, three arguments.
    WHERE = "where"  # second argument where the first is not 0, else third

    # Reductions: from the argument's space to the node's.
    REDUCE_SUM = "reduce_sum"
    REDUCE_MAX = "reduce_max"  # NaN wins
    REDUCE_MIN = "reduce_min"
    KTH = "kth"  # (k,) k-th smallest, from 1; NaN counts as largest


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
COMMUTATIVE = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN, Op.EQ, Op.NE})


@dataclass(frozen=True)
class Node:
    """One value: what computes it, from which earlier nodes, and where it lives."""

    op: Op
    args: tuple[int, ...] = ()
    attrs: tuple[Any, ...] = ()  # str, int, float only
    space: Space = Space.SCALAR


@dataclass(frozen=True)
class KernelGraph:
    """Nodes in an order in which arguments come first, and the indices of the results."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: graphs are keys of what was compiled."""
        return hash((self.nodes, self.outputs))

    def to_json(self) -> dict[str, Any]:
        """Plain data: floats travel as hexadecimal text, so that inf, nan and -0.0 survive."""
        rows = [
            [n.op.value, list(n.args), [_pack(a) for a in n.attrs], n.space.value]
            for n in self.nodes
        ]
        return {"nodes": rows, "outputs": list(self.outputs)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> KernelGraph:
        """The graph that `to_json` wrote. Verify it before use (`verify.verify`)."""
        nodes = tuple(
            Node(Op(op), tuple(args), tuple(_unpack(a) for a in attrs), Space(space))
            for op, args, attrs, space in data["nodes"]
        )
        return KernelGraph(nodes, tuple(data["outputs"]))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the graph's text, 16 hex digits. Equal after `passes.canonical`: same meaning."""
        text = json.dumps(self.to_json(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def join(*spaces: Space) -> Space:
    """The space of an element-wise op on values of these spaces."""
    distinct = set(spaces) - {Space.SCALAR}
    if not distinct:
        return Space.SCALAR
    return distinct.pop() if len(distinct) == 1 else Space.FULL


def _pack(value: Any) -> Any:
    return {"f": value.hex()} if isinstance(value, float) else value


def _unpack(value: Any) -> Any:
    return float.fromhex(value["f"]) if isinstance(value, dict) else value


class Builder:
    """Makes a graph node by node; equal nodes are made once, spaces are worked out here."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(
        self, op: Op, *args: int, attrs: tuple[Any, ...] = (), space: Space | None = None
    ) -> int:
        """Index of the node. `space` is needed for leaves and reductions only."""
        if space is None:
            space = join(*(self.nodes[i].space for i in args))
        node = Node(op, args, attrs, space)
        # repr tells 1, 1.0, True, 0.0 and -0.0 apart, which hashing does not
        key = (op, args, repr(attrs), space)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def const(self, value: float) -> int:
        return self.add(Op.CONST, attrs=(float(value),), space=Space.SCALAR)

    def input(self, name: str) -> int:
        return self.add(Op.INPUT, attrs=(name,), space=Space.FULL)

    def graph(self, *outputs: int) -> KernelGraph:
        return KernelGraph(tuple(self.nodes), tuple(outputs))
