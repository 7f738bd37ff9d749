"""The tile VM's instructions, and the passes over them: fusion, then registers by last use.

    fuse(program)      fewer instructions that do the same: time is instructions x tiles (one store
                       to L1 each), whatever they compute
    allocate(program)  virtual registers become few real ones, all in L1
    pack(program)      bytes for kernels/cpu/vm.h, and where numbers are to be filled in

Before `allocate` every register is written once. A fused instruction is defined as its parts, so
fused and plain programs give the same bits. What exists in fused form is in kernels/cpu/pairs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

LAYOUT = struct.Struct("8H3f")
REGISTERS, NUMBERS = ("a", "b", "c", "e"), ("s", "t", "u")


@dataclass(frozen=True)
class Number:
    """An immediate: the value of a node that is known only at the call."""

    node: int
    change: str = ""  # "negated", or "below": the next smaller float32


@dataclass(frozen=True)
class Insn:
    """d = op(a, b, c, e; s, t, u) over registers and numbers; k is an index into a table."""

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


# ---- registers, bytes -----------------------------------------------------------------------------


def allocate(program: Instructions) -> tuple[Instructions, int]:
    """Real registers: a value's last reader gives its register back, and may write to it."""
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
    """The instructions' bytes, and for each immediate its place in them."""
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
