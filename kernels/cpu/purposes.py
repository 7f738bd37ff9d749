"""Encodes a graph for each kind of call: merge, update, reductions, moments, columns, k-th values."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement

from ..compiler.cache import kept
from ..ir import KernelGraph, Op
from .encode import REDUCTION_KINDS, Code, Encoder, Lanes, Machine
from .lanes import encode_moments, encode_products, moments_of, products_of


@kept()
def encode(graph: KernelGraph, purpose: str, bf16: frozenset[str], machine: Machine) -> Code:
    """Return the code of a graph for one of PURPOSES. `bf16` are the experts of that format."""
    return PURPOSES[purpose](Encoder(graph, bf16), machine)


def encode_merge(encoder: Encoder, machine: Machine) -> Code:
    """Encode base + update, rounded to the output's format and stored."""
    update = encoder.value(encoder.graph.outputs[0])
    encoder.end("TRUE__STORE_MERGED", a=update, c=encoder.base())
    return encoder.code(machine)


def encode_update(encoder: Encoder, machine: Machine) -> Code:
    """Encode the float32 update alone."""
    encoder.end("STORE", a=encoder.value(encoder.graph.outputs[0]))
    return encoder.code(machine)


def encode_reductions(encoder: Encoder, machine: Machine) -> Code:
    """Encode reductions into lanes. The code's `lanes` say where each output is."""
    outputs = list(encoder.graph.outputs)
    lanes = Lanes(encoder.graph.outputs)
    encode_products(encoder, lanes, products_of(encoder, outputs), moments_of(encoder, outputs))
    encode_moments(encoder, lanes, [o for o in outputs if o not in lanes.lane_of])
    return encoder.code(machine, lanes)


def encode_moments_of(encoder: Encoder, machine: Machine) -> Code:
    """Encode sums in double lanes: of the outputs, then of all products x * y, x not after y."""
    outputs = encoder.graph.outputs
    lanes, values = Lanes(()), [encoder.value(output) for output in outputs]
    for value in values:
        encoder.end("WIDE_SUM", a=value, k=lanes.take(None))
    if len(values) == 3:
        registers = dict(zip("abc", values, strict=True))
        encoder.end("WIDE_GRAM3", **registers, k=lanes.take(*[None] * 6))
    else:
        for x, y in combinations_with_replacement(values, 2):
            encoder.end("WIDE_DOT", a=x, b=y, k=lanes.take(None))
    return encoder.code(machine, lanes)


def encode_columns(encoder: Encoder, machine: Machine) -> Code:
    """Encode reductions by column: output k goes into column accumulator k."""
    lanes = Lanes(encoder.graph.outputs)
    names = {Op.REDUCE_SUM: "SUM", Op.REDUCE_MAX: "LARGEST", Op.REDUCE_MIN: "SMALLEST"}
    for output in encoder.graph.outputs:
        node = encoder.graph.nodes[output]
        k = lanes.take(output, kind=REDUCTION_KINDS[node.op])
        encoder.end(f"COLUMN_{names[node.op]}", a=encoder.value(node.args[0]), k=k)
    return encoder.code(machine, lanes)


def encode_gather(encoder: Encoder, machine: Machine) -> Code:
    """Encode the gathering of keys inside a bracket. All outputs are k-th values of one value."""
    (value,) = {encoder.graph.nodes[output].args[0] for output in encoder.graph.outputs}
    encoder.end("GATHER", a=encoder.value(value))
    return encoder.code(machine)


def encode_histogram(encoder: Encoder, machine: Machine) -> Code:
    """Encode the counting of one digit of those keys."""
    (value,) = {encoder.graph.nodes[output].args[0] for output in encoder.graph.outputs}
    encoder.end("HISTOGRAM", a=encoder.value(value))
    return encoder.code(machine)


PURPOSES: dict[str, Callable[[Encoder, Machine], Code]] = {
    "merge": encode_merge,
    "update": encode_update,
    "reductions": encode_reductions,
    "moments": encode_moments_of,
    "columns": encode_columns,
    "gather": encode_gather,
    "histogram": encode_histogram,
}
