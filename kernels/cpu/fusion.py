"""Fuses instructions that follow each other into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from .instructions import Insn, Instructions

Only = Callable[[int | None], Insn | None]  # gives what wrote a register, if nobody else reads it
Rule = Callable[
    [Insn, Only], tuple[Insn, list[Insn]] | None
]  # gives the new one and what it swallows


def fuse(program: Instructions, known: Mapping[str, int]) -> Instructions:
    """Return the program with fewer instructions. `known` are the VM's instructions.

    The rules that save most come first.
    """
    for rule in (absolute_threshold, add_scaled, read_in_passing, pair):
        program = rewrite(program, rule, known)
    return program


def rewrite(program: Instructions, rule: Rule, known: Mapping[str, int]) -> Instructions:
    """Apply one rule in one walk. An instruction may swallow those that wrote what only it reads."""
    reads = Counter(r for insn in program for r in insn.reads)
    written: dict[int, Insn] = {}
    gone: set[int] = set()

    def only(register: int | None) -> Insn | None:
        return written.get(register) if register is not None and reads[register] == 1 else None

    found: Instructions = []
    for insn in program:
        if (merged := rule(insn, only)) and merged[0].op in known:
            insn, swallowed = merged
            gone |= {part.d for part in swallowed if part.d is not None}
        found.append(insn)
        if insn.d is not None:
            written[insn.d] = insn
    return [insn for insn in found if insn.d is None or insn.d not in gone]


def absolute_threshold(insn: Insn, only: Only) -> tuple[Insn, list[Insn]] | None:
    """KEEP is x where |x| > s and else a number; MASK is x * (|x| > s). Both also serve >=."""
    if insn.op == "TRUE__WHERE_RS":
        tests = [(insn.a, insn.c)]
    elif insn.op == "MUL_RR":
        tests = [(insn.a, insn.b), (insn.b, insn.a)]
    else:
        return None
    for tested, kept in tests:
        test = only(tested)
        size = only(test.a) if test and test.op in ("LT_SR", "LE_SR") else None
        if test and test.s and size and size.op == "ABS" and size.a == kept:
            cut = test.s if test.op == "LT_SR" else replace(test.s, change="below")
            name = "MASK" if insn.op == "MUL_RR" else "KEEP"
            return Insn(name, insn.d, kept, s=cut, u=insn.u), [test, size]
    return None


def add_scaled(insn: Insn, only: Only) -> tuple[Insn, list[Insn]] | None:
    """ADD_SCALED is a + b * s."""
    if insn.op != "ADD_RR":
        return None
    for product, other in ((insn.b, insn.a), (insn.a, insn.b)):
        if (part := only(product)) and part.op == "MUL_RS":
            return Insn("ADD_SCALED", insn.d, other, part.a, s=part.s), [part]
    return None


def read_in_passing(insn: Insn, only: Only) -> tuple[Insn, list[Insn]] | None:
    """Let a threshold, a magnitude or products read task vectors that are stored as bf16."""
    if insn.op in ("GRAM3", "GRAM3_MOMENTS"):
        return products_in_passing(insn, only)
    delta = only(insn.a)
    if insn.op not in ("ABS", "KEEP", "MASK") or not delta or delta.op != "DELTA":
        return None
    return replace(insn, op=f"DELTA_{insn.op}", a=None, b=delta.b, k=delta.k), [delta]


def products_in_passing(insn: Insn, only: Only) -> tuple[Insn, list[Insn]] | None:
    """Let products of three values read bf16. k holds the lane in 7 bits, then each input in 3."""
    deltas = [delta for delta in map(only, (insn.a, insn.b, insn.c)) if delta]
    inputs = [delta.k for delta in deltas if delta.op == "DELTA"]
    if len(inputs) != 3 or max(inputs) > 7 or insn.k > 127:
        return None
    packed = insn.k | inputs[0] << 7 | inputs[1] << 10 | inputs[2] << 13
    return Insn(f"DELTA_{insn.op}", b=deltas[0].b, k=packed), deltas


# For each second instruction: the operand that the first one writes, its name as a SECOND in pairs.h,
# and the other operand.
SECONDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "ADD_RR": (("a", "ADD_R", "b"), ("b", "ADD_R", "a")),
    "ADD_RS": (("a", "ADD_S", ""),),
    "SUB_RR": (("a", "SUB_R", "b"), ("b", "RSUB_R", "a")),
    "SUB_SR": (("a", "RSUB_S", ""),),
    "MUL_RR": (("a", "MUL_R", "b"), ("b", "MUL_R", "a")),
    "MUL_RS": (("a", "MUL_S", ""),),
    "MAX_RR": (("a", "MAX_R", "b"),),
    "MAX_RS": (("a", "MAX_S", ""),),
    "MIN_RR": (("a", "MIN_R", "b"),),
    "MIN_RS": (("a", "MIN_S", ""),),
    "LT_RR": (("a", "LT_R", "b"), ("b", "GT_R", "a")),
    "LT_RS": (("a", "LT_S", ""),),
    "LT_SR": (("a", "GT_S", ""),),
    "EQ_RR": (("a", "EQ_R", "b"), ("b", "EQ_R", "a")),
    "ABS": (("a", "ABSOLUTE", ""),),
    "ADD_SCALED": (("b", "TIMES_PLUS_R", "a"), ("a", "PLUS_SCALED_R", "b")),
}


def pair(insn: Insn, only: Only) -> tuple[Insn, list[Insn]] | None:
    """Fuse g(f(a, b), c), a test with its choice, or a result with its store."""
    if insn.op.startswith("TRUE__"):
        if first := only(insn.a):
            name = insn.op.replace("TRUE", first.op, 1)
            stored = insn.op == "TRUE__STORE_MERGED"
            merged = replace(insn, op=name, a=first.a, b=first.b, k=first.k, s=first.s)
            return replace(merged, u=first.u) if stored else merged, [first]
        return None
    for operand, second, other in SECONDS.get(insn.op, ()):
        if (first := only(getattr(insn, operand))) and "__" not in first.op and first.op in FIRSTS:
            rest = getattr(insn, other) if other else None
            name = f"{first.op}__{second}"
            return replace(first, op=name, d=insn.d, c=rest, t=insn.s), [first]
    return None


FIRSTS = frozenset(
    "ADD_RR ADD_RS SUB_RR SUB_SR MUL_RR MUL_RS MAX_RR MAX_RS MIN_RR MIN_RS LT_RR LT_RS LT_SR EQ_RR "
    "ABS KEEP MASK ADD_SCALED DELTA DELTA_ABS DELTA_KEEP DELTA_MASK".split()
)
