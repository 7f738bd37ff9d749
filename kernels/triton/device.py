"""The functions that generated kernels call, and the fixed kernel that ends a sweep.

They read addresses and formats, reduce a block, draw numbers by Philox, and compute what Triton lacks.
Only generated files import this module, because Triton decides when it decorates a function whether it
interprets that. In the interpreter casts of bf16 are wrong, so its bits are used there, and formulas
stand in for libdevice.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
import triton
import triton.language as tl
from triton.language.extra import libdevice

INTERPRET = tl.constexpr(triton.knobs.runtime.interpret)
LOWEST = tl.constexpr(-(2**31))
HIGHEST = tl.constexpr(2**31 - 1)


# ---- a cell of the descriptor table as an address. `aligned` says that it is a multiple of 16 bytes;
# the compiler is told so after the cast, which would forget it.


@triton.jit
def at_bf16(cell, aligned: tl.constexpr):
    p = tl.load(cell).to(tl.pointer_type(tl.bfloat16))
    return tl.multiple_of(p, 16) if aligned else p


@triton.jit
def at_fp16(cell, aligned: tl.constexpr):
    p = tl.load(cell).to(tl.pointer_type(tl.float16))
    return tl.multiple_of(p, 16) if aligned else p


@triton.jit
def at_fp32(cell, aligned: tl.constexpr):
    p = tl.load(cell).to(tl.pointer_type(tl.float32))
    return tl.multiple_of(p, 16) if aligned else p


@triton.jit
def at_int32(cell):
    return tl.load(cell).to(tl.pointer_type(tl.int32))


@triton.jit
def count(cell, eights: tl.constexpr):
    """Return a number of elements. Without the hint a mask makes all accesses 2 bytes wide."""
    n = tl.load(cell)
    return tl.multiple_of(n, 8) if eights else n


# ---- formats


@triton.jit
def load_bf16(p, i, m):
    if INTERPRET:
        u = tl.load(p.to(tl.pointer_type(tl.uint16)) + i, mask=m, other=0).to(tl.uint32)
        return (u << 16).to(tl.float32, bitcast=True)
    return tl.load(p + i, mask=m, other=0.0).to(tl.float32)


@triton.jit
def load_fp16(p, i, m):
    return tl.load(p + i, mask=m, other=0.0).to(tl.float32)


@triton.jit
def load_fp32(p, i, m):
    return tl.load(p + i, mask=m, other=0.0)


@triton.jit
def bf16_bits(x):
    u = x.to(tl.uint32, bitcast=True)
    return (u + 0x7FFF + ((u >> 16) & 1)) >> 16


@triton.jit
def store_bf16(p, i, x, m):
    if INTERPRET:
        tl.store(p.to(tl.pointer_type(tl.uint16)) + i, bf16_bits(x).to(tl.uint16), mask=m)
    else:
        tl.store(p + i, x.to(tl.bfloat16), mask=m)


@triton.jit
def store_fp16(p, i, x, m):
    tl.store(p + i, x.to(tl.float16), mask=m)


@triton.jit
def store_fp32(p, i, x, m):
    tl.store(p + i, x, mask=m)


@triton.jit
def round_bf16(x):
    if INTERPRET:
        return (bf16_bits(x) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.bfloat16).to(tl.float32)


@triton.jit
def one(x):
    """Return 1 in the shape of x, because div_rn takes no plain number."""
    return tl.where(x == x, 1.0, x)


@triton.jit
def nearest(x):
    """Round half to even, by adding a power of two that leaves no fraction."""
    big = tl.where(x < 0, -8388608.0, 8388608.0)
    return tl.where(tl.abs(x) < 8388608.0, (x + big) - big, x)


@triton.jit
def modulo(x, y):
    """Return the remainder that has the divisor's sign. It is exact, because fmod is."""
    rest = x % y if INTERPRET else libdevice.fmod(x, y)
    return tl.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


# The interpreter has no libdevice. There these are computed in float64, so that what is lost near 0 and 1 is
# less than a float32 shows.


@triton.jit
def power(x, y):
    if not INTERPRET:
        return libdevice.pow(x, y)
    x, y = tl.broadcast(x, y)
    wide = y.to(tl.float64)
    size = tl.exp(wide * tl.log(tl.abs(x).to(tl.float64)))
    # Also for an infinite power.
    size = tl.where(tl.abs(x) == 1, 1.0, size)
    # A negative number has whole powers only.
    whole, odd = wide == tl.floor(wide), (wide % 2.0 != 0.0) & (tl.abs(y) < 1e30)
    size = tl.where((x.to(tl.int32, bitcast=True) < 0) & whole & odd, -size, size)
    size = tl.where((x < 0) & (x > -float("inf")) & (wide != tl.floor(wide)), float("nan"), size)
    return tl.where((y == 0) | (x == 1), 1.0, size).to(tl.float32)


@triton.jit
def tanh(x):
    if not INTERPRET:
        return libdevice.tanh(x)
    wide = x.to(tl.float64)
    near = wide * (1.0 - wide * wide / 3.0)
    return tl.where(tl.abs(x) < 1e-3, near, 1.0 - 2.0 / (tl.exp(2.0 * wide) + 1.0)).to(tl.float32)


@triton.jit
def expm1(x):
    if not INTERPRET:
        return libdevice.expm1(x)
    wide = x.to(tl.float64)
    near = wide + 0.5 * wide * wide
    return tl.where(tl.abs(x) < 1e-4, near, tl.exp(wide) - 1.0).to(tl.float32)


@triton.jit
def log1p(x):
    if not INTERPRET:
        return libdevice.log1p(x)
    wide = x.to(tl.float64)
    near = wide - 0.5 * wide * wide
    return tl.where(tl.abs(x) < 1e-4, near, tl.log(1.0 + wide)).to(tl.float32)


@triton.jit
def in_range(at, start: tl.constexpr, stop: tl.constexpr, step: tl.constexpr):
    return tl.where((at >= start) & (at < stop) & ((at - start) % step == 0), 1.0, 0.0)


@triton.jit
def words(seed, draw, stream, i):
    """Return word i % 4 of the Philox block i // 4, for any i."""
    block = i // 4
    low = block.to(tl.uint32)
    zero = low * 0
    a, b, c, d = tl.philox(seed, low, (block >> 32).to(tl.uint32), zero + draw, zero + stream)
    lane = i % 4
    return tl.where(lane == 0, a, tl.where(lane == 1, b, tl.where(lane == 2, c, d)))


@triton.jit
def block_words(seed, draw, stream, start, BLOCK: tl.constexpr):
    """Return the words of elements start, start + 1, ..., [BLOCK // 8, 8]; 4 divides start."""
    block = start // 4 + tl.arange(0, BLOCK // 4)
    low = block.to(tl.uint32)
    zero = low * 0
    a, b, c, d = tl.philox(seed, low, (block >> 32).to(tl.uint32), zero + draw, zero + stream)
    return tl.join(tl.join(a, c), tl.join(b, d)).reshape(BLOCK // 8, 8)


@triton.jit
def unit(word):
    return (word >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def box_muller(u, v):
    return tl.sqrt_rn(-2.0 * tl.log(1.0 - u)) * tl.cos(6.2831855 * v)


@triton.jit
def uniform(seed, draw, i):
    return unit(words(seed, draw, 0, i))


@triton.jit
def normal(seed, draw, i):
    return box_muller(unit(words(seed, draw, 1, i)), unit(words(seed, draw, 2, i)))


@triton.jit
def block_uniform(seed, draw, start, BLOCK: tl.constexpr):
    return unit(block_words(seed, draw, 0, start, BLOCK))


@triton.jit
def block_normal(seed, draw, start, BLOCK: tl.constexpr):
    u = unit(block_words(seed, draw, 1, start, BLOCK))
    return box_muller(u, unit(block_words(seed, draw, 2, start, BLOCK)))


@triton.jit
def atan(x):
    if not INTERPRET:
        return libdevice.atan(x)
    # The polynomial of Cephes, after two reductions of the argument.
    size = tl.abs(x)
    z = tl.where(size > 1, 1.0 / size, size)
    high = z > 0.41421357
    z = tl.where(high, (z - 1.0) / (z + 1.0), z)
    w = z * z
    p = ((0.0805374449538 * w - 0.138776856032) * w + 0.199777106478) * w - 0.333329491539
    angle = p * w * z + z + tl.where(high, 0.7853981852531433, 0.0)
    angle = tl.where(size > 1, 1.5707963705062866 - angle, angle)
    return tl.where(x < 0, -angle, angle)


@triton.jit
def asin(x):
    if not INTERPRET:
        return libdevice.asin(x)
    # (1 - x) (1 + x) loses nothing near 1, as 1 - x * x would.
    return atan(x / tl.sqrt_rn((1.0 - x) * (1.0 + x)))


@triton.jit
def acos(x):
    return 1.5707963705062866 - asin(x) if INTERPRET else libdevice.acos(x)


@triton.jit
def atan2(y, x):
    if not INTERPRET:
        return libdevice.atan2(y, x)
    # One of them may be a number of its own, of whose comparisons the interpreter makes no mask.
    y, x = tl.broadcast(y, x)
    # Where |y| is |x|, the quotient is 1, although Inf / Inf is NaN.
    both = (tl.abs(y) == tl.abs(x)) & (x == x) & (x != 0)
    angle = atan(tl.where(both, 1.0, tl.abs(y) / tl.abs(x)))
    angle = tl.where((x == 0) & (y == 0), 0.0, angle)
    # By the sign bit, since -0.0 counts as negative.
    behind = x.to(tl.int32, bitcast=True) < 0
    angle = tl.where(behind & (x == x), 3.1415927410125732 - angle, angle)
    return tl.where(y.to(tl.int32, bitcast=True) < 0, -angle, angle)


# ---- a block [rows, 8] reduced over its second axis. The mask m says which elements are in the tensor,
# and `live` which rows are.


@triton.jit
def summed(x, m, live, whole: tl.constexpr):
    """Return each row's sum. `whole` says that a row of 8 is in or out as one: its sum is masked."""
    if whole:
        return tl.where(live, tl.sum(x, 1), 0.0)
    return tl.sum(tl.where(m, x, 0.0), 1)


@triton.jit
def rising(x):
    """Return int32 keys that compare as the floats do, with NaN above all.

    Integers, because tl.max drops NaN. Adding 0.0 makes -0.0 into 0.0.
    """
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(x == x, key, HIGHEST)


@triton.jit
def highest(x, m, live, whole: tl.constexpr):
    """Return each row's largest key; see `summed` for `whole`."""
    if whole:
        return tl.where(live, tl.max(rising(x), 1), LOWEST)
    return tl.max(tl.where(m, rising(x), LOWEST), 1)


@triton.jit
def bits_of(x):
    return x.to(tl.float32).to(tl.int32, bitcast=True)


# ---- where a block's elements are in the matrix


@triton.jit
def lanes(BLOCK: tl.constexpr, whole: tl.constexpr):
    """Return int32 offsets in a block: of the first of 8 that are in one row, else of each."""
    first = (tl.arange(0, BLOCK // 8) * 8)[:, None]
    return first if whole else first + tl.arange(0, 8)[None, :]


@triton.jit
def eight(whole: tl.constexpr):
    return tl.arange(0, 8)[None, :] if whole else 0


@triton.jit
def load_row(p, at_row, m, live, whole: tl.constexpr):
    return tl.load(p + at_row, mask=live[:, None] if whole else m, other=0.0)


@triton.jit
def finish(partial, bounds, out, NUM: tl.constexpr, NUM_SUMS: tl.constexpr, BLOCK: tl.constexpr):
    """Combine the partial results of chunks bounds[t] to bounds[t + 1] into out[t, s].

    Sums are added in float64, in a fixed order. partial [chunks, NUM] int32: first the sums, as the
    bits of float32, then the maxima.
    """
    t, s = tl.program_id(0), tl.program_id(1)
    begin, end = tl.load(bounds + t), tl.load(bounds + t + 1)
    total = tl.zeros((BLOCK,), tl.float64)
    top = tl.full((BLOCK,), LOWEST, tl.int32)
    for k in range(begin, end, BLOCK):
        j = (k + tl.arange(0, BLOCK)).to(tl.int64)
        bits = tl.load(partial + j * NUM + s, mask=j < end, other=0)
        total += bits.to(tl.float32, bitcast=True).to(tl.float64)
        top = tl.maximum(top, tl.where(j < end, bits, LOWEST))
    value = tl.max(top, 0).to(tl.float64)
    if s < NUM_SUMS:
        value = tl.sum(total, 0)
    tl.store(out + t * NUM + s, value)
