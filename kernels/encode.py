"""From a stage's graph to the tile VM's instructions: fusion by pattern, registers by last use.

Scalars (PARAM slots of SCALAR space) become immediates. A value that no later instruction reads
gives its register back, so few are live and all stay in L1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .ir import BINARY, UNARY, Graph, Node, Op, Space

BF16, F16, F32 = range(3)
REDUCTION_KINDS = {Op.REDUCE_SUM: 0, Op.REDUCE_MAX: 1, Op.REDUCE_MIN: 2}


@dataclass(frozen=True)
class Code:
    """Instructions and the tables that they index."""

    text: bytes
    num_instructions: int
    num_registers: int
    inputs: tuple[str, ...]  # "" is the base
    vectors: tuple[int, ...]  # slots of ROW and COL vectors
    ranges: tuple[int, ...]  # start, stop, step of each
    draws: tuple[int, ...]  # seed, draw of each
    needs_rows: bool  # tiles must not leave their row


@dataclass
class Encoder:
    """Emits one program. `scalars[slot]` are the immediates; opcodes are numbers by name."""

    graph: Graph
    scalars: dict[int, float]
    opcodes: dict[str, int]
    reserved: int = 0  # registers 0..reserved-1 are written by the caller's instructions only
    words: list[bytes] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    vectors: list[int] = field(default_factory=list)
    ranges: list[int] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)
    needs_rows: bool = False

    def __post_init__(self) -> None:
        self.register: dict[int, int] = {}
        self.base_register: int | None = None
        self.free: list[int] = []
        self.num_registers = self.reserved
        self.uses = [0] * len(self.graph.nodes)
        for node in self.graph.nodes:
            for arg in node.args:
                self.uses[arg] += 1
        for output in self.graph.outputs:
            self.uses[output] += 1

    # ---- registers

    def take(self) -> int:
        if self.free:
            return self.free.pop()
        self.num_registers += 1
        return self.num_registers - 1

    def release(self, index: int) -> None:
        """One reader less; the last one gives the register back."""
        self.uses[index] -= 1
        if self.uses[index] == 0 and index in self.register:
            self.free.append(self.register.pop(index))

    def emit(
        self, name: str, d: int = 0, a: int = 0, b: int = 0, c: int = 0, k: int = 0, *,
        s: float = 0.0, t: float = 0.0,
    ) -> None:  # fmt: skip
        self.words.append(struct.pack("6H2f", self.opcodes[name], d, a, b, c, k, f32(s), f32(t)))

    # ---- values

    def scalar(self, index: int) -> float | None:
        """The immediate that a node is, or None."""
        node = self.graph.nodes[index]
        if node.op is Op.CONST:
            return node.attrs[0]
        if node.op is Op.PARAM and node.space is Space.SCALAR:
            return self.scalars[node.attrs[0]]
        return None

    def value(self, index: int) -> int:
        """The register that holds a node's value, computed now if need be."""
        todo = [index]
        while todo:
            current = todo[-1]
            if current in self.register:
                todo.pop()
            elif waiting := [a for a in self.operands(current) if a not in self.register]:
                todo += waiting
            else:
                self.compute(todo.pop())
        return self.register[index]

    def operands(self, index: int) -> list[int]:
        """Nodes whose registers the instruction of this node reads."""
        if pattern := self.pattern(index):
            return [a for a in pattern[1] if self.scalar(a) is None]
        node = self.graph.nodes[index]
        forced = node.op is Op.WHERE
        return [a for i, a in enumerate(node.args) if self.scalar(a) is None or (forced and i == 0)]

    def compute(self, index: int) -> None:
        node = self.graph.nodes[index]
        if (number := self.scalar(index)) is not None:
            self.register[index] = self.take()
            self.emit("FILL", self.register[index], s=number)
        elif not node.args:
            self.leaf(index, node)
        elif pattern := self.pattern(index):
            self.fused(index, *pattern)
        else:
            self.plain(index, node)

    def leaf(self, index: int, node: Node) -> None:
        base = self.base() if node.op is Op.INPUT else 0
        d = self.register[index] = self.take()
        if node.op is Op.INPUT:
            self.emit("LOAD_DELTA", d, base, k=self.input(node.attrs[0]))
        elif node.op is Op.PARAM:
            self.needs_rows = True
            name = "ROW_VALUE" if node.space is Space.ROW else "COL_VALUES"
            self.emit(name, d, k=position(self.vectors, node.attrs[0]))
        elif node.op is Op.IN_RANGE:
            self.emit("IN_RANGE", d, k=len(self.ranges) // 3)
            self.ranges += node.attrs
        else:
            kind, seed, draw = node.attrs
            self.emit(kind.upper(), d, k=len(self.draws) // 2)
            self.draws += [seed, draw]

    def base(self) -> int:
        """The register of the base's values; it stays for the whole program."""
        if self.base_register is None:
            self.base_register = self.take()
            self.emit("LOAD", self.base_register, k=self.input(""))
        return self.base_register

    def input(self, name: str) -> int:
        return position(self.inputs, name)

    def plain(self, index: int, node: Node) -> None:
        numbers = [self.scalar(a) for a in node.args]
        regs = [self.register.get(a, 0) for a in node.args]
        for arg in node.args:
            self.release(arg)
        d = self.register[index] = self.take()
        if node.op in UNARY:
            self.emit(node.op.name, d, regs[0])
        elif node.op in BINARY:
            form = "".join("R" if n is None else "S" for n in numbers)
            number = next((n for n in numbers if n is not None), 0.0)
            self.emit(f"{node.op.name}_{form}", d, regs[0], regs[1], s=number)
        else:
            _, yes, no = numbers
            form = "".join("R" if n is None else "S" for n in (None, yes, no))
            self.emit(f"WHERE_{form}", d, *regs, s=yes or 0.0, t=no or 0.0)

    # ---- fused pairs: each is defined as its parts

    def pattern(self, index: int) -> tuple[str, tuple[int, ...], float] | None:
        """(instruction, nodes whose registers it reads, scalar) where one instruction does two."""
        node = self.graph.nodes[index]
        if node.op is Op.ADD:
            return self.add_scaled(node)
        return self.keep_above(node) if node.op is Op.WHERE else None

    def add_scaled(self, node: Node) -> tuple[str, tuple[int, ...], float] | None:
        """a + b * s"""
        for product, other in (node.args[::-1], node.args):
            inner = self.graph.nodes[product]
            if inner.op is not Op.MUL or self.uses[product] != 1 or self.scalar(other) is not None:
                continue
            for scaled, factor in (inner.args, inner.args[::-1]):
                number = self.scalar(factor)
                if number is not None and product not in self.register:
                    return "ADD_SCALED", (other, scaled), number
        return None

    def keep_above(self, node: Node) -> tuple[str, tuple[int, ...], float] | None:
        """x where |x| > s, else 0"""
        test, kept, other = node.args
        compare = self.graph.nodes[test]
        if self.scalar(other) != 0.0 or compare.op is not Op.LT or self.uses[test] != 1:
            return None
        cut, size = (compare.args[0], self.graph.nodes[compare.args[1]])
        number = self.scalar(cut)
        fits = size.op is Op.ABS and size.args[0] == kept and self.uses[compare.args[1]] == 1
        if number is None or not fits or test in self.register:
            return None
        return "KEEP_ABOVE", (kept,), number

    def fused(self, index: int, name: str, read: tuple[int, ...], number: float) -> None:
        regs = [self.register[a] for a in read]
        self.release_fused(index, read)
        d = self.register[index] = self.take()
        self.emit(name, d, *regs, s=number)

    def release_fused(self, index: int, read: tuple[int, ...]) -> None:
        """The swallowed nodes' readers are gone, too."""
        swallowed, todo = [index], [index]
        while todo:
            for arg in self.graph.nodes[todo.pop()].args:
                inside = arg not in self.register and self.graph.nodes[arg].args
                if inside and arg not in swallowed:
                    swallowed.append(arg)
                    todo.append(arg)
        for node in swallowed:
            for arg in self.graph.nodes[node].args:
                self.release(arg)

    def code(self) -> Code:
        return Code(
            b"".join(self.words),
            len(self.words),
            self.num_registers,
            tuple(self.inputs),
            tuple(self.vectors),
            tuple(self.ranges),
            tuple(self.draws),
            self.needs_rows,
        )


# ---- whole programs --------------------------------------------------------------------------------


def encode_apply(encoder: Encoder, merged: bool) -> Code:
    """base + update into the output, or the float32 update alone."""
    update = encoder.value(encoder.graph.outputs[0])
    if merged:
        encoder.emit("STORE_MERGED", a=update, b=encoder.base())
    else:
        encoder.emit("STORE", a=update)
    return encoder.code()


def encode_reductions(encoder: Encoder) -> Code:
    """Reductions into lanes, one for each output."""
    for k, output in enumerate(encoder.graph.outputs):
        node = encoder.graph.nodes[output]
        name, args = reduction(encoder, node)
        regs = [encoder.value(a) for a in args]
        encoder.emit(name, 0, *regs, k=k)
        encoder.release(node.args[0])
    return encoder.code()


def reduction(encoder: Encoder, node: Node) -> tuple[str, tuple[int, ...]]:
    """Instruction and the nodes that it reads; sums of |x| and x * y are one instruction."""
    if node.op is not Op.REDUCE_SUM:
        return ("LARGEST" if node.op is Op.REDUCE_MAX else "SMALLEST"), node.args
    inner = encoder.graph.nodes[node.args[0]]
    alone = node.args[0] not in encoder.register
    if alone and inner.op is Op.ABS and encoder.scalar(inner.args[0]) is None:
        return "SUM_ABS", inner.args
    if alone and inner.op is Op.MUL and all(encoder.scalar(a) is None for a in inner.args):
        return "SUM_PRODUCT", inner.args
    return "SUM", node.args


def encode_columns(encoder: Encoder) -> Code:
    """Values to be reduced by column, left in registers 0, 1, ..."""
    for k, output in enumerate(encoder.graph.outputs):
        register = encoder.value(encoder.graph.nodes[output].args[0])
        encoder.emit("MUL_RS", k, register, s=1.0)
    return encoder.code()


def encode_histogram(encoder: Encoder) -> Code:
    """Counts of the keys of what the order statistic, the only output, runs over."""
    (output,) = encoder.graph.outputs
    encoder.emit("HISTOGRAM", a=encoder.value(encoder.graph.nodes[output].args[0]))
    return encoder.code()


def position(items: list, item: object) -> int:
    """Index of the item, appended if it is new."""
    if item not in items:
        items.append(item)
    return items.index(item)


def f32(value: float) -> float:
    """A float that struct can pack: what overflows float32 is infinite there."""
    try:
        struct.pack("f", value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value
