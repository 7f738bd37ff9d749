"""The kernel of the digest (kernels/digest.py). Only digest.py beside it imports this, when it launches."""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
import triton
import triton.language as tl

from ..digest import ROWS, SEED, STRIP_DRAW, STRIPS

NUM_ROWS, NUM_STRIPS = tl.constexpr(ROWS), tl.constexpr(STRIPS)
STRIP_SEED, DRAW = tl.constexpr(SEED), tl.constexpr(STRIP_DRAW)
UNROLLED = tl.constexpr(8)  # rows that are read before the first is needed


@triton.jit
def low_half(x):
    return (x & 0xFFFFFFFF).to(tl.uint32)


@triton.jit
def high_half(x):
    return (x >> 32).to(tl.uint32)


@triton.jit
def term(low, high, a, b):
    """Return (low + a) (high + b): additions modulo 2^32, the product in 64 bits."""
    return (low + a).to(tl.uint64) * (high + b).to(tl.uint64)


@triton.jit
def row_term(low, high, key):
    """Return the term of a row whose two keys are the halves of a number."""
    pair = tl.load(key)
    return term(low, high, low_half(pair), high_half(pair))


@triton.jit
def digest_chunks(table, block_row, row_keys, totals, CHUNKS: tl.constexpr):
    """Add the strips of CHUNKS chunks to the totals of their tensor: int64 [tensors, 2].

    A row of `table` is a piece of a tensor: its address, which 16 divides, its number of chunks, the
    number of its first chunk in the tensor, its first program, and the tensor's number. Program p
    works for row block_row[p]. `row_keys` has a pair for each total and row, int64 [2, ROWS]. Reads
    2 bytes for each bf16 element, with 16-byte accesses; the two atomic additions of a program are of
    integers, so their order does not matter.
    """
    program = tl.program_id(0)
    row = table + 5 * tl.load(block_row + program)
    words = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.uint64)), 16)
    chunk = (program - tl.load(row + 3)) * CHUNKS + tl.arange(0, CHUNKS)
    live = (chunk < tl.load(row + 1))[:, None]
    lane = tl.arange(0, NUM_STRIPS)[None, :]
    # [CHUNKS, NUM_STRIPS] from here on
    place = words + (chunk * (NUM_ROWS * NUM_STRIPS))[:, None] + lane
    strips0 = tl.zeros((CHUNKS, NUM_STRIPS), tl.uint64)
    strips1 = tl.zeros((CHUNKS, NUM_STRIPS), tl.uint64)
    for first in range(0, NUM_ROWS, UNROLLED):
        for i in tl.static_range(UNROLLED):
            pair = tl.load(place + (first + i) * NUM_STRIPS, mask=live, other=0)
            low, high = low_half(pair), high_half(pair)
            strips0 += row_term(low, high, row_keys + first + i)
            strips1 += row_term(low, high, row_keys + NUM_ROWS + first + i)
    strip = (chunk + tl.load(row + 2))[:, None] * NUM_STRIPS + lane
    zero = low_half(strip) * 0
    a, b, c, d = tl.philox(STRIP_SEED, low_half(strip), high_half(strip), zero + DRAW, zero)
    total0 = term(low_half(strips0), high_half(strips0), a, b)
    total1 = term(low_half(strips1), high_half(strips1), c, d)
    out = totals + 2 * tl.load(row + 4)
    tl.atomic_add(out, tl.sum(tl.where(live, total0.to(tl.int64), 0)))
    tl.atomic_add(out + 1, tl.sum(tl.where(live, total1.to(tl.int64), 0)))
