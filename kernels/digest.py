"""The digest of a tensor's bytes: NH, the hash of UMAC (Black et al., 1999; RFC 4418), in two levels.

The bytes are padded with zeros to whole chunks of 64 rows x 32 strips x 2 little-endian 32-bit words.
A strip is one column of pairs (m, n) of a chunk:

    strip  =  sum over its rows of (m + a) (n + b)                          a, b depend on the row
    total  =  number of bytes + sum over all strips of (low + c) (high + d)    c, d on the strip

Here low and high are the halves of `strip`. Words are added modulo 2^32, products modulo 2^64. A
digest is two such totals with keys of their own. Additions have no order: threads take the chunks as
they come, and a file is added piece by piece as it is read.

In two tensors of equal size that differ, at least one strip differs. NH makes two such strips equal
with a probability of at most 2^-32, and then two such totals: 2^-31 for a total, 2^-62 for both, over
keys drawn at random. Our keys are fixed Philox numbers that everybody can compute. So this is a
checksum against mistakes, not against forgers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROWS, STRIPS, TOTALS = 64, 32, 2
CHUNK_BYTES = ROWS * STRIPS * 2 * 4
SEED = 0x6E68
ROW_DRAW, STRIP_DRAW = 0, 1  # draws of Philox
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def keys(draw: int, *shape: int) -> np.ndarray:
    """Return the keys of rows or strips, numbers below 2^32: uint64 of this shape."""
    # This loads torch, which the digest of a file does not need.
    from .philox import words

    return words(SEED, draw, int(np.prod(shape))).reshape(shape)


def digest(data: bytes) -> str:
    """Return the digest of these bytes as 32 hex digits. All other forms must agree with this one."""
    padded = data + bytes(-len(data) % CHUNK_BYTES)
    words = np.frombuffer(padded, "<u4").astype(np.uint64).reshape(-1, ROWS, STRIPS, 2)
    strip_keys = keys(STRIP_DRAW, len(words), STRIPS, TOTALS, 2)
    totals = [len(data)] * TOTALS
    for k, row_keys in enumerate(keys(ROW_DRAW, TOTALS, ROWS, 1, 2)):
        strips = product((words + row_keys) & LOW).sum(1, dtype=np.uint64)
        halves = np.stack((strips, strips >> HALF), -1) + strip_keys[:, :, k]
        totals[k] += int(product(halves & LOW).sum(dtype=np.uint64))
    return digits(totals)


def product(pairs: np.ndarray) -> np.ndarray:
    return pairs[..., 0] * pairs[..., 1]


def digits(totals: Sequence[int]) -> str:
    """Return the totals as 16 hex digits each."""
    return "".join(f"{total % 2**64:016x}" for total in totals)
