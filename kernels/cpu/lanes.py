"""Bytecode that adds products up in double precision."""

from __future__ import annotations

from itertools import combinations

from ..ir import Op
from .encode import MAX_KIND, REDUCTION_KINDS, Encoder, Lanes

Product = tuple[int, int]  # of two nodes, the smaller first


def products_of(encoder: Encoder, outputs: list[int]) -> dict[Product, int]:
    """Sums of x * y: which two nodes, and the output."""
    found: dict[Product, int] = {}
    for output in outputs:
        node = encoder.graph.nodes[output]
        inner = encoder.graph.nodes[node.args[0]]
        numbers = any(encoder.is_number(a) for a in inner.args)
        if node.op is Op.REDUCE_SUM and inner.op is Op.MUL and not numbers:
            x, y = sorted(inner.args)
            found[x, y] = output
    return found


def moments_of(encoder: Encoder, outputs: list[int]) -> dict[tuple[int, str], int]:
    """Outputs that are the sum, or the sum of magnitudes, of a value."""
    found = {}
    for output in outputs:
        node = encoder.graph.nodes[output]
        inner = encoder.graph.nodes[node.args[0]]
        if node.op is Op.REDUCE_SUM:
            size = inner.op is Op.ABS and not encoder.is_number(inner.args[0])
            found[(inner.args[0], "SIZES") if size else (node.args[0], "SUM")] = output
    return found


def encode_products(
    encoder: Encoder,
    lanes: Lanes,
    wanted: dict[Product, int],
    moments: dict[tuple[int, str], int],
) -> None:
    """All products of three or of two values in one instruction, where most of them are wanted; of
    three with their sums and sums of magnitudes, where those are."""
    for size, least, op in ((3, 4, "GRAM3"), (2, 2, "GRAM2")):
        values = sorted({v for product in wanted for v in product})
        for group in combinations(values, size):
            pairs = [(x, y) for i, x in enumerate(group) for y in group[i:]]
            if sum(p in wanted for p in pairs) >= least:
                registers = dict(zip("abc", map(encoder.value, group), strict=False))
                served = [wanted.pop(p, None) for p in pairs]
                beside = [(v, name) for v in group for name in ("SUM", "SIZES")]
                if size == 3 and sum(m in moments for m in beside) >= 4:
                    op, served = "GRAM3_MOMENTS", [*served, *(moments.pop(m, None) for m in beside)]
                encoder.end(op, **registers, k=lanes.take(*served))
    for (x, y), output in wanted.items():
        if x != y:
            registers = {"a": encoder.value(x), "b": encoder.value(y)}
            encoder.end("DOT", **registers, k=lanes.take(output))


def encode_moments(encoder: Encoder, lanes: Lanes, outputs: list[int]) -> None:
    """Sum, sum of magnitudes, sum of squares of one value in one instruction; extremes alone."""
    moments: dict[int, dict[str, int]] = {}
    for output in outputs:
        node = encoder.graph.nodes[output]
        inner = encoder.graph.nodes[node.args[0]]
        size = inner.op is Op.ABS and not encoder.is_number(inner.args[0])
        if node.op is Op.REDUCE_MAX and size:
            encoder.end("LARGEST_SIZE", a=encoder.value(inner.args[0]),
                        k=lanes.take(output, kind=MAX_KIND))  # fmt: skip
        elif node.op is not Op.REDUCE_SUM:
            op = "LARGEST" if node.op is Op.REDUCE_MAX else "SMALLEST"
            kind = REDUCTION_KINDS[node.op]
            encoder.end(op, a=encoder.value(node.args[0]), k=lanes.take(output, kind=kind))
        elif inner.op is Op.MUL and inner.args[0] == inner.args[1]:
            moments.setdefault(inner.args[0], {})["SQUARES"] = output
        else:
            name, value = ("SIZES", inner.args[0]) if size else ("SUM", node.args[0])
            moments.setdefault(value, {})[name] = output
    for value, wanted in moments.items():
        names = [name for name in ("SUM", "SIZES", "SQUARES") if name in wanted]
        first = lanes.take(*(wanted[name] for name in names))
        encoder.end("_".join(names), a=encoder.value(value), k=first)
