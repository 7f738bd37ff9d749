"""The tile VM's instructions, their registers and their bytes.

    fusion.fuse        fewer instructions that do the same: time is instructions x tiles, whatever
                       they compute, since each stores a tile to L1
    allocate           virtual registers become few real ones, all in L1
    pack               the bytes for kernels/cpu/vm.h, and where numbers are filled in

Before `allocate` every register is written once. A fused instruction is defined as its parts, so
fused and plain programs give the same bits. kernels/cpu/pairs.h lists the fused instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

LAYOUT = struct.Struct("8H3f")
REGISTERS, NUMBERS = ("a", "b", "c", "e"), ("s", "t", "u")


@dataclass(frozen=True)
class Number:
    """An immediate: the number of a node, which is known only at the call."""

    node: int
    change: str = ""  # "negated", or "below" for the next smaller float32


@dataclass(frozen=True)
class Insn:
    """d = op(a, b, c, e; s, t, u) of registers and numbers. k is an index into a table."""

    op: str
    d: int | None = None
    a: int | None = None
    b: int | None = None
    c: int | None = None
    e: int | None = None
    k: int = 0
    s: Number | None = None
    t: Number | None = None
    u: Number | None = None

    @property
    def reads(self) -> list[int]:
        return [r for r in (self.a, self.b, self.c, self.e) if r is not None]


Instructions = list[Insn]


def allocate(program: Instructions) -> tuple[Instructions, int]:
    """Return the program with real registers, and how many there are.

    A value's last reader gives its register back, and may write to it.
    """
    last = {r: i for i, insn in enumerate(program) for r in insn.reads}
    real: dict[int, int] = {}
    free: list[int] = []
    found: Instructions = []
    for i, insn in enumerate(program):
        read = {name: real[r] for name in REGISTERS if (r := getattr(insn, name)) is not None}
        free += [real.pop(r) for r in dict.fromkeys(insn.reads) if last[r] == i]
        if insn.d is not None:
            real[insn.d] = free.pop() if free else len(real) + len(free)
            read["d"] = real[insn.d]
            if insn.d not in last:
                free.append(real.pop(insn.d))
        found.append(replace(insn, **read))
    return found, 1 + max((r for insn in found for r in (insn.d or 0, *insn.reads)), default=0)


def pack(
    program: Instructions, opcodes: Mapping[str, int]
) -> tuple[bytes, tuple[tuple[int, Number], ...]]:
    """Return the instructions' bytes, and the offset in them of each immediate."""
    words, numbers = [], []
    for i, insn in enumerate(program):
        fields = (insn.d, insn.a, insn.b, insn.c, insn.e)
        words.append(
            LAYOUT.pack(opcodes[insn.op], *(r or 0 for r in fields), insn.k, 0, 0.0, 0.0, 0.0)
        )
        for j, name in enumerate(NUMBERS):
            if (number := getattr(insn, name)) is not None:
                numbers.append((i * LAYOUT.size + 16 + 4 * j, number))
    return b"".join(words), tuple(numbers)
