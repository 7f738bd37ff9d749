"""Counter-based random numbers: Philox 4x32-10 (Salmon et al., SC 2011), the same on every backend.

Element i is word i % 4 of the block with counter (i // 4 low, i // 4 high, draw, stream) and the
64-bit key `seed`. Uniform numbers are (word >> 8) * 2^-24 of stream 0. A normal number takes one
word of stream 1 and one of stream 2 (Box and Muller): sqrt(-2 log(1 - u)) cos(2 pi v).
"""

from __future__ import annotations

import numpy as np
import torch

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
ROUNDS = 10
# A uniform 0 stands for numbers from here to the next one, where zero itself is not wanted.
LEAST_UNIFORM = 2.0**-25
UNIFORM_STREAM, NORMAL_STREAMS = 0, (1, 2)


def words(seed: int, draw: int, n: int, stream: int = UNIFORM_STREAM) -> np.ndarray:
    """Return the first n words of a draw: uint64 [n], each below 2^32."""
    block = np.arange(-(-n // 4), dtype=np.uint64)
    c0, c1 = block & LOW, block >> SHIFT
    c2, c3 = np.full_like(block, draw), np.full_like(block, stream)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(ROUNDS):
        p, q = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = (q >> SHIFT) ^ c1 ^ np.uint64(k0), q & LOW
        c2, c3 = (p >> SHIFT) ^ c3 ^ np.uint64(k1), p & LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), 1).reshape(-1)[:n]


def uniform(seed: int, draw: int, n: int, stream: int = UNIFORM_STREAM) -> torch.Tensor:
    """Return n uniform numbers: float32 [n] in [0, 1)."""
    bits = (words(seed, draw, n, stream) >> np.uint64(8)).astype(np.float32)
    return torch.from_numpy(bits * np.float32(2**-24))


def normal(seed: int, draw: int, n: int) -> torch.Tensor:
    """Return n standard normal numbers: float32 [n]."""
    u, v = (uniform(seed, draw, n, stream) for stream in NORMAL_STREAMS)
    return torch.sqrt(-2 * torch.log(1 - u)) * torch.cos(2 * torch.pi * v)


def draw(kind: str, seed: int, number: int, shape: tuple[int, int]) -> torch.Tensor:
    """Return float32 [R, C]; `kind` is "uniform" or "normal"."""
    numbers = uniform if kind == "uniform" else normal
    return numbers(seed, number, shape[0] * shape[1]).reshape(shape)
