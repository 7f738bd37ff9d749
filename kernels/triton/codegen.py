"""Generated Triton source for the element-wise pass: one kernel, one tensor, one program a chunk.

A chunk is BLOCK x ITERS elements in blocks of [BLOCK // 8, 8], so that a row is 16 bytes of bf16.
Each element is read once from the base and from every expert that is used, computed in float32
without fusion of products and sums (the same roundings as the C++ backend), and written once,
rounded to nearest even. Non-finite results are found by an integer maximum of the stored bits.

There are two builds of each source. *Vector* takes the first n // 8 * 8 elements when all pointers
are divisible by 16: 16-byte accesses. *Element-wise* takes the tail, and misaligned tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir import Graph, Node, Op, Space

BLOCK, ITERS, NUM_WARPS = 1024, 4, 4
DTYPES = ("bf16", "fp16", "fp32")
LIMIT_BITS = {"bf16": 0x7F7F8000, "fp16": 0x477FF000, "fp32": 0x7F800000}  # from here on: Inf

Form = Callable[..., str]


def call(name: str) -> Form:
    return lambda *args: f"{name}({', '.join(args)})"


def infix(sign: str) -> Form:
    return lambda x, y: f"({x} {sign} {y})"


def compare(sign: str) -> Form:
    return lambda x, y: f"tl.where({x} {sign} {y}, 1.0, 0.0)"


FORMS: dict[Op, Form] = {
    Op.NEG: lambda x: f"(-{x})",
    Op.ABS: call("tl.abs"),
    Op.SIGN: lambda x: f"tl.where({x} > 0, 1.0, tl.where({x} < 0, -1.0, {x}))",
    Op.SQRT: call("tl.sqrt_rn"),
    Op.RSQRT: lambda x: f"tl.div_rn(one(({x})), tl.sqrt_rn({x}))",
    Op.EXP: call("tl.exp"),
    Op.EXPM1: call("expm1"),
    Op.LOG: call("tl.log"),
    Op.LOG1P: call("log1p"),
    Op.SIN: call("tl.sin"),
    Op.COS: call("tl.cos"),
    Op.ASIN: call("asin"),
    Op.ACOS: call("acos"),
    Op.ATAN: call("atan"),
    Op.TANH: call("tanh"),
    Op.ERF: call("tl.erf"),
    Op.FLOOR: call("tl.floor"),
    Op.CEIL: call("tl.ceil"),
    Op.ROUND: call("nearest"),
    Op.TRUNC: lambda x: f"tl.where({x} < 0, tl.ceil({x}), tl.floor({x}))",
    Op.ROUND_BF16: call("round_bf16"),
    Op.ROUND_F16: lambda x: f"{x}.to(tl.float16).to(tl.float32)",
    Op.ADD: infix("+"),
    Op.SUB: infix("-"),
    Op.MUL: infix("*"),
    Op.DIV: call("tl.div_rn"),
    Op.POW: call("power"),
    Op.MAX: lambda x, y: f"tl.maximum({x}, {y}, propagate_nan=tl.PropagateNan.ALL)",
    Op.MIN: lambda x, y: f"tl.minimum({x}, {y}, propagate_nan=tl.PropagateNan.ALL)",
    Op.MOD: call("modulo"),
    Op.ATAN2: call("atan2"),
    Op.LT: compare("<"),
    Op.LE: compare("<="),
    Op.EQ: compare("=="),
    Op.NE: compare("!="),
    Op.WHERE: lambda c, x, y: f"tl.where({c} != 0, {x}, {y})",
}


@dataclass(frozen=True)
class Kernel:
    """A generated function and the order of its pointer arguments."""

    name: str
    source: str
    inputs: tuple[str, ...]  # experts, in order; the base comes before them
    scalars: tuple[int, ...]  # slots in the parameter buffer
    rows: tuple[int, ...]  # slots of ROW vectors
    cols: tuple[int, ...]


def generate(graph: Graph, name: str, dtypes: Sequence[str], merged: bool) -> Kernel:
    """The apply kernel of a graph; `dtypes`: of base and inputs. `merged`: add the base, round."""
    inputs = tuple(dict.fromkeys(n.attrs[0] for n in graph.nodes if n.op is Op.INPUT))
    slots = {space: slots_of(graph, space) for space in (Space.SCALAR, Space.ROW, Space.COL)}
    kernel = Kernel(name, "", inputs, slots[Space.SCALAR], slots[Space.ROW], slots[Space.COL])
    body = [
        line for i, n in enumerate(graph.nodes) for line in lines_of(graph, i, n, kernel, dtypes)
    ]
    out = dtypes[0] if merged else "fp32"
    result = f"v{graph.outputs[0]}"
    last = (
        f"base_value + {result}" if merged else f"{result} + tl.zeros((BLOCK // 8, 8), tl.float32)"
    )
    pointers = ["base", *(f"e{i}" for i in range(len(inputs)))]
    vectors = [*(f"r{s}" for s in kernel.rows), *(f"c{s}" for s in kernel.cols)]
    source = TEMPLATE.format(
        name=name,
        arguments=", ".join(
            [*pointers, *vectors, "params", "out", "flag", "first", "n", "num_cols"]
        ),
        base=f"load_{dtypes[0]}(base, i, m)",
        body="\n        ".join(body),
        last=last,
        store=f"store_{out}",
        limit=LIMIT_BITS[out],
    )
    return Kernel(name, source, inputs, kernel.scalars, kernel.rows, kernel.cols)


def slots_of(graph: Graph, space: Space) -> tuple[int, ...]:
    found = (n.attrs[0] for n in graph.nodes if n.op is Op.PARAM and n.space is space)
    return tuple(dict.fromkeys(found))


def lines_of(
    graph: Graph, index: int, node: Node, kernel: Kernel, dtypes: Sequence[str]
) -> list[str]:
    """The statements that make one value."""
    if node.op is Op.INPUT:
        position = kernel.inputs.index(node.attrs[0])
        load = f"load_{dtypes[1 + position]}(e{position}, i, m)"
        return [f"v{index} = {load} - base_value  # {node.attrs[0]!r}"]
    if node.op is Op.CONST:
        return [f"v{index} = {number(node.attrs[0])}"]
    if node.op is Op.PARAM:
        return [f"v{index} = {slot(node, kernel)}"]
    if node.op is Op.IN_RANGE:
        start, stop, step = node.attrs
        at = {Space.ROW: "i // num_cols", Space.COL: "i % num_cols", Space.FULL: "i"}[node.space]
        return [f"at{index} = {at}", f"v{index} = in_range(at{index}, {start}, {stop}, {step})"]
    if node.op is Op.RANDOM:
        kind, seed, draw = node.attrs
        return [f"v{index} = {kind}({seed}, {draw}, i)"]
    args = [f"v{a}" for a in node.args]
    return [f"v{index} = {FORMS[node.op](*args)}"]


def slot(node: Node, kernel: Kernel) -> str:
    if node.space is Space.SCALAR:
        return f"tl.load(params + {kernel.scalars.index(node.attrs[0])})"
    letter, at = ("r", "i // num_cols") if node.space is Space.ROW else ("c", "i % num_cols")
    return f"tl.load({letter}{node.attrs[0]} + ({at}), mask=m, other=0.0)"


def number(value: float) -> str:
    """A float32 constant as Triton source."""
    if value != value:
        return 'float("nan")'
    return f'float("{value}")' if value in (float("inf"), float("-inf")) else repr(value)


TEMPLATE = '''@triton.jit
def {name}({arguments}, BLOCK: tl.constexpr, ITERS: tl.constexpr, VECTOR: tl.constexpr):
    """out[first:n] = the element-wise pass; one chunk of BLOCK * ITERS elements a program."""
    start = tl.program_id(0).to(tl.int64) * (BLOCK * ITERS) + first
    stop = (n // 8 * 8) if VECTOR else n
    worst = tl.zeros((BLOCK // 8,), tl.int32)
    for k in range(ITERS):
        # [BLOCK // 8, 8]
        i = start + k * BLOCK + (tl.arange(0, BLOCK // 8) * 8)[:, None] + tl.arange(0, 8)[None, :]
        m = i < stop
        base_value = {base}
        {body}
        y = {last}
        {store}(out, i, y, m)
        bits = tl.where(m, y.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0)
        worst = tl.maximum(worst, tl.max(bits, 1))
    tl.store(flag + tl.zeros((BLOCK // 8,), tl.int32), 1, mask=worst >= {limit})
'''

PRELUDE = '''"""Generated by selfdev-engine; one kernel of one merge program. See kernels/triton/codegen.py."""
import triton
import triton.language as tl
from triton.language.extra import libdevice

INTERPRET = tl.constexpr({interpret})


@triton.jit
def load_bf16(p, i, m):
    if INTERPRET:  # its casts get bf16 wrong
        u = tl.load(p.to(tl.pointer_type(tl.uint16)) + i, mask=m, other=0).to(tl.uint32)
        return (u << 16).to(tl.float32, bitcast=True)
    return tl.load(p + i, mask=m, other=0.0, eviction_policy="evict_first").to(tl.float32)


@triton.jit
def load_fp16(p, i, m):
    return tl.load(p + i, mask=m, other=0.0, eviction_policy="evict_first").to(tl.float32)


@triton.jit
def load_fp32(p, i, m):
    return tl.load(p + i, mask=m, other=0.0, eviction_policy="evict_first")


@triton.jit
def bf16_bits(x):
    u = x.to(tl.uint32, bitcast=True)
    return (u + 0x7FFF + ((u >> 16) & 1)) >> 16


@triton.jit
def store_bf16(p, i, x, m):
    if INTERPRET:
        tl.store(p.to(tl.pointer_type(tl.uint16)) + i, bf16_bits(x).to(tl.uint16), mask=m)
    else:
        tl.store(p + i, x.to(tl.bfloat16), mask=m, eviction_policy="evict_first")


@triton.jit
def store_fp16(p, i, x, m):
    tl.store(p + i, x.to(tl.float16), mask=m, eviction_policy="evict_first")


@triton.jit
def store_fp32(p, i, x, m):
    tl.store(p + i, x, mask=m, eviction_policy="evict_first")


@triton.jit
def round_bf16(x):
    if INTERPRET:
        return (bf16_bits(x) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.bfloat16).to(tl.float32)


@triton.jit
def one(x):
    return x * 0.0 + 1.0


@triton.jit
def nearest(x):
    """Half to even, by a power of two that leaves no fraction."""
    big = tl.where(x < 0, -8388608.0, 8388608.0)
    return tl.where(tl.abs(x) < 8388608.0, (x + big) - big, x)


@triton.jit
def modulo(x, y):
    """The sign of the divisor."""
    return x - tl.floor(tl.div_rn(x, y)) * y


@triton.jit
def power(x, y):
    if INTERPRET:
        return tl.exp(y * tl.log(x))
    return libdevice.pow(x, y)


@triton.jit
def tanh(x):
    if INTERPRET:
        return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)
    return libdevice.tanh(x)


@triton.jit
def expm1(x):
    if INTERPRET:
        return tl.where(tl.abs(x) < 1e-3, x + 0.5 * x * x, tl.exp(x) - 1.0)
    return libdevice.expm1(x)


@triton.jit
def log1p(x):
    if INTERPRET:
        return tl.where(tl.abs(x) < 1e-3, x - 0.5 * x * x, tl.log(1.0 + x))
    return libdevice.log1p(x)


@triton.jit
def in_range(at, start: tl.constexpr, stop: tl.constexpr, step: tl.constexpr):
    return tl.where((at >= start) & (at < stop) & ((at - start) % step == 0), 1.0, 0.0)


@triton.jit
def words(seed, draw, stream, i):
    """Word i % 4 of the Philox block i // 4."""
    block = i // 4
    low = block.to(tl.uint32)
    zero = low * 0
    a, b, c, d = tl.philox(seed, low, (block >> 32).to(tl.uint32), zero + draw, zero + stream)
    lane = i % 4
    return tl.where(lane == 0, a, tl.where(lane == 1, b, tl.where(lane == 2, c, d)))


@triton.jit
def uniform(seed, draw, i):
    return (words(seed, draw, 0, i) >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def normal(seed, draw, i):
    u = (words(seed, draw, 1, i) >> 8).to(tl.float32) * 5.9604644775390625e-08
    v = (words(seed, draw, 2, i) >> 8).to(tl.float32) * 5.9604644775390625e-08
    return tl.sqrt_rn(-2.0 * tl.log(1.0 - u)) * tl.cos(6.2831855 * v)


@triton.jit
def atan(x):
    return libdevice.atan(x)


@triton.jit
def asin(x):
    return libdevice.asin(x)


@triton.jit
def acos(x):
    return libdevice.acos(x)


@triton.jit
def atan2(x, y):
    return libdevice.atan2(x, y)


'''
