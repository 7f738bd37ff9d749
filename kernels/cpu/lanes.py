"""Encodes reductions: those that read the same registers share an instruction."""

from __future__ import annotations

from itertools import combinations

from ..ir import Op
from .encode import MAX_KIND, REDUCTION_KINDS, Encoder, Lanes

Product = tuple[int, int]  # the two nodes that are multiplied, the smaller index first


def products_of(encoder: Encoder, outputs: list[int]) -> dict[Product, int]:
    """Return the outputs that are sums of x * y, by x and y."""
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
    """Return the outputs that are a value's "SUM", or the sum of its magnitudes, "SIZES"."""
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
    """Encode sums of products.

    One instruction computes all products of three or of two values, where most of them are wanted.
    That of three also computes the values' sums and sums of magnitudes, where most are wanted.
    """
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
    """Encode the other reductions.

    One instruction computes the sum, the sum of magnitudes and the sum of squares of a value, as far
    as they are wanted. An extreme has an instruction of its own.
    """
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
