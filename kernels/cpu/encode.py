"""From a stage's graph to the tile VM's instructions.

The code of a graph does not depend on its numbers, which are constants and slots of SCALAR space.
Numbers are filled in at each call, so a program of known structure is encoded once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir import BINARY, UNARY, KernelGraph, Node, Op, Space
from .fusion import fuse
from .instructions import Insn, Instructions, Number, allocate, pack

BF16, F16, F32 = range(3)
SUM_KIND, MAX_KIND, MIN_KIND = range(3)
REDUCTION_KINDS = {Op.REDUCE_SUM: SUM_KIND, Op.REDUCE_MAX: MAX_KIND, Op.REDUCE_MIN: MIN_KIND}


@dataclass(frozen=True)
class Code:
    """Instructions and the tables that they index."""

    text: bytes
    numbers: tuple[tuple[int, Number], ...]  # each immediate and its offset in the text
    program: tuple[Insn, ...]
    num_registers: int
    inputs: tuple[str, ...]  # experts; "" is the base
    vectors: tuple[int, ...]  # slots of ROW and COL vectors
    ranges: tuple[int, ...]  # start, stop and step, one range after the other
    draws: tuple[int, ...]  # seed and draw, one pair after the other
    needs_rows: bool  # tiles must not leave their row
    kinds: tuple[int, ...] = ()  # each lane's kind of reduction
    lanes: tuple[int, ...] = ()  # each output's lane

    def filled(self, value: Callable[[int], float]) -> bytes:
        """Return the text with its immediates; `value` gives a node's number."""
        text = bytearray(self.text)
        for offset, number in self.numbers:
            struct.pack_into("f", text, offset, changed(value(number.node), number.change))
        return bytes(text)


@dataclass(frozen=True)
class Machine:
    """What encoding depends on besides the graph and the inputs' formats."""

    opcodes: Mapping[str, int]
    fused: bool = True

    def __hash__(self) -> int:
        return hash(self.fused)


@dataclass
class Encoder:
    """Emits one program; every register is written once."""

    graph: KernelGraph
    bf16: frozenset[str]  # experts that are stored in that format
    program: Instructions = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    vectors: list[int] = field(default_factory=list)
    ranges: list[int] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)
    needs_rows: bool = False

    def __post_init__(self) -> None:
        self.register: dict[int, int] = {}
        self.num_written = 0
        self.base_register: int | None = None

    def write(self, op: str, **fields: int | Number | None) -> int:
        """Append an instruction and return the register that it writes."""
        self.num_written += 1
        self.program.append(Insn(op, self.num_written, **fields))  # pyright: ignore
        return self.num_written

    # ---- values

    def is_number(self, index: int) -> bool:
        """Return whether a node is a number that is filled in at the call."""
        node = self.graph.nodes[index]
        return node.op is Op.CONST or (node.op is Op.PARAM and node.space is Space.SCALAR)

    def value(self, index: int) -> int:
        """Return the register that holds a node's value, which is computed now if need be."""
        todo = [index]
        while todo:
            current = todo[-1]
            waiting = [] if current in self.register else self.operands(current)
            if waiting := [a for a in waiting if a not in self.register]:
                todo += reversed(waiting)
            elif todo.pop() not in self.register:
                self.register[current] = self.compute(current)
        return self.register[index]

    def operands(self, index: int) -> list[int]:
        """Return the arguments that must be in registers: conditions, and all that are no numbers."""
        node = self.graph.nodes[index]
        forced = node.op is Op.WHERE
        return [a for i, a in enumerate(node.args) if not self.is_number(a) or (forced and i == 0)]

    def compute(self, index: int) -> int:
        node = self.graph.nodes[index]
        if self.is_number(index):
            return self.write("FILL", s=Number(index))
        if not node.args:
            return self.leaf(node)
        if node.op in UNARY:
            return self.write(node.op.name, a=self.register[node.args[0]])
        return self.binary(node) if node.op in BINARY else self.where(node)

    def leaf(self, node: Node) -> int:
        """Write a leaf that is no number. A task vector is the expert less the base."""
        if node.op is Op.INPUT:
            (name,) = node.attrs
            op = "DELTA" if name in self.bf16 else "LOAD_DELTA"
            return self.write(op, b=self.base(), k=position(self.inputs, name))
        if node.op is Op.PARAM:
            self.needs_rows = True
            op = "ROW_VALUE" if node.space is Space.ROW else "COL_VALUES"
            return self.write(op, k=position(self.vectors, node.attrs[0]))
        if node.op is Op.IN_RANGE:
            self.ranges += node.attrs
            return self.write("IN_RANGE", k=len(self.ranges) // 3 - 1)
        kind, seed, draw = node.attrs
        self.draws += [seed, draw]
        return self.write(kind.upper(), k=len(self.draws) // 2 - 1)

    def base(self) -> int:
        """Return the register of the base's values."""
        if self.base_register is None:
            self.base_register = self.write("LOAD", k=position(self.inputs, ""))
        return self.base_register

    def binary(self, node: Node) -> int:
        """Write an op of two arguments.

        A number comes second where the op is commutative, and x - s becomes x + (-s).
        """
        x, y = node.args
        name = node.op.name
        if self.is_number(x):
            flips = node.op in (Op.ADD, Op.MUL, Op.MAX, Op.MIN, Op.EQ, Op.NE)
            form = "RS" if flips else "SR"
            return self.write(f"{name}_{form}", a=self.register[y], s=Number(x))
        if self.is_number(y):
            if node.op is Op.SUB:
                return self.write("ADD_RS", a=self.register[x], s=Number(y, "negated"))
            return self.write(f"{name}_RS", a=self.register[x], s=Number(y))
        return self.write(f"{name}_RR", a=self.register[x], b=self.register[y])

    def where(self, node: Node) -> int:
        """Write a choice, each branch of which is a register or a number."""
        test, yes, no = node.args
        form = "".join("S" if self.is_number(a) else "R" for a in (yes, no))
        return self.write(
            f"TRUE__WHERE_{form}",
            a=self.register[test],
            c=None if self.is_number(yes) else self.register[yes],
            e=None if self.is_number(no) else self.register[no],
            t=Number(yes) if self.is_number(yes) else None,
            u=Number(no) if self.is_number(no) else None,
        )

    # ---- the program

    def end(self, op: str, **fields: int | None) -> None:
        """Append an instruction that writes no register."""
        self.program.append(Insn(op, None, **fields))  # pyright: ignore

    def code(self, machine: Machine, lanes: Lanes | None = None) -> Code:
        """Return the finished program: fused, with real registers, as bytes."""
        program = fuse(self.program, machine.opcodes) if machine.fused else self.program
        program, num_registers = allocate(program)
        text, numbers = pack(program, machine.opcodes)
        lanes = lanes or Lanes(())
        return Code(
            text,
            numbers,
            tuple(program),
            num_registers,
            tuple(self.inputs),
            tuple(self.vectors),
            tuple(self.ranges),
            tuple(self.draws),
            self.needs_rows,
            kinds=tuple(lanes.kinds),
            lanes=tuple(lanes.lane_of[output] for output in lanes.outputs),
        )


# ---- lanes ----------------------------------------------------------------------------------------


@dataclass
class Lanes:
    """Hands out lanes to reductions, and knows which output each lane serves."""

    outputs: tuple[int, ...]
    kinds: list[int] = field(default_factory=list)
    lane_of: dict[int, int] = field(default_factory=dict)

    def take(self, *served: int | None, kind: int = SUM_KIND) -> int:
        """Give each served output a lane, and return the first of them.

        None is a sum that an instruction computes in passing and nobody wants.
        """
        first = len(self.kinds)
        for i, output in enumerate(served):
            self.kinds.append(kind)
            if output is not None:
                self.lane_of[output] = first + i
        return first


def position(items: list, item: object) -> int:
    """Return the index of the item, which is appended if it is new."""
    if item not in items:
        items.append(item)
    return items.index(item)


def changed(value: float, change: str) -> float:
    """Return the number as the instruction wants it, in float32; what overflows is infinite."""
    value = f32(value)
    if change == "negated":
        return -value
    return below(value) if change == "below" else value


def f32(value: float) -> float:
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def below(value: float) -> float:
    """Return the next smaller float32."""
    if math.isnan(value) or value == -math.inf:
        return value
    (bits,) = struct.unpack("i", struct.pack("f", value or -0.0))
    bits = bits - 1 if value > 0 else bits + 1
    return struct.unpack("f", struct.pack("i", bits))[0]
