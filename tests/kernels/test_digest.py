"""The digest: its forms agree bit by bit, whatever the bytes, the pieces, the threads and the build."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch
from selfdev_engine.kernels.cpu.digest import Digest, memory_digest
from selfdev_engine.kernels.cpu.extension import load_extension
from selfdev_engine.kernels.digest import CHUNK_BYTES, ROWS, STRIPS, digest, digits

SIZES = (0, 1, 3, 7, 8, 9, 255, 256, 257, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1)
MORE_SIZES = (*SIZES, 3 * CHUNK_BYTES + 13, 70 * CHUNK_BYTES + 5)


def random_bytes(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def native(data: bytes, threads: int = 1, isa: str = "", offset: int = 0) -> str:
    """Return the digest by the extension, of bytes that begin `offset` behind an aligned address."""
    memory = np.frombuffer(bytes(offset) + data + bytes(8), np.uint8)
    totals = load_extension().digest(memory.ctypes.data + offset, len(data), 0, threads, isa)
    return digits(totals)


def test_the_digest_stays_what_it_is():
    """Prints are kept in runs, so another digest needs another prefix (engine/weights/fingerprint.py)."""
    found = [digest(random_bytes(size)) for size in MORE_SIZES]
    assert found[0] == "0" * 32
    assert hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] == "7e27a4769cede028"


def test_the_digest_is_its_formula():
    """One strip by Python's integers alone."""
    from selfdev_engine.kernels.philox import words

    data, low = random_bytes(CHUNK_BYTES), 2**32
    m = np.frombuffer(data, "<u4").reshape(ROWS, STRIPS, 2).astype(object)
    rows = words(0x6E68, 0, 4 * ROWS).reshape(2, ROWS, 2).astype(object)
    keys = words(0x6E68, 1, 4 * STRIPS).reshape(STRIPS, 2, 2).astype(object)
    totals = [CHUNK_BYTES, CHUNK_BYTES]
    for k in (0, 1):
        for s in range(STRIPS):
            pairs = [(m[r, s] + rows[k, r]) % low for r in range(ROWS)]
            strip = int(sum(int(x) * int(y) for x, y in pairs)) % 2**64
            c, d = keys[s, k]
            totals[k] += ((strip + int(c)) % low) * (((strip >> 32) + int(d)) % low)
    assert digest(data) == digits(totals)


@pytest.mark.parametrize("isa", load_extension().isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_every_build_gives_the_reference(isa, threads):
    for size in MORE_SIZES:
        data = random_bytes(size, size)
        assert native(data, threads, isa) == digest(data), size


@pytest.mark.parametrize("offset", [1, 2, 6, 16])
def test_the_address_does_not_matter(offset):
    data = random_bytes(3 * CHUNK_BYTES + 21)
    assert native(data, offset=offset) == digest(data)


@pytest.mark.parametrize("most", [1, 100, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_pieces_of_any_size_give_the_whole(most):
    data, draw = random_bytes((2 if most == 1 else 40) * CHUNK_BYTES + 77), random.Random(1)
    found, done = Digest(), 0
    while done < len(data):
        count = draw.randint(1, most)
        found.update(memoryview(data)[done : done + count])
        done += count
    assert found.hexdigest() == digest(data) == found.hexdigest()


def test_more_than_the_last_place_of_a_32_bit_counter():
    """Strips are numbered in 64 bits: the same bytes at two places far apart differ."""
    data = np.frombuffer(random_bytes(CHUNK_BYTES), np.uint8)
    places = (0, 1, 2**27, 2**27 + 1, 2**40)
    totals = {load_extension().digest(data.ctypes.data, len(data), p, 1) for p in places}
    assert len(totals) == len(places)


def test_every_bit_and_every_place_matters():
    data, draw = random_bytes(2 * CHUNK_BYTES), random.Random(2)
    made = {data, *(bytes(size) for size in range(0, 2 * CHUNK_BYTES, 97))}
    for _ in range(200):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        made.add(bytes(flipped))
    for _ in range(200):  # two words, rows or chunks change places
        size = draw.choice([2, 4, 8, 256, 2048, CHUNK_BYTES])
        one, other = (size * draw.randrange(len(data) // size) for _ in range(2))
        swapped = bytearray(data)
        swapped[one : one + size] = data[other : other + size]
        swapped[other : other + size] = data[one : one + size]
        made.add(bytes(swapped))
    totals = [native(one) for one in made]
    for half in (slice(0, 16), slice(16, 32)):
        assert len({total[half] for total in totals}) == len(made) > 400


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64])
def test_tensors_of_every_dtype(dtype):
    for shape in ((), (0,), (3,), (37, 53), (64, 128)):
        tensor = torch.randn(shape).mul(100).to(dtype)
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert memory_digest(tensor.data_ptr(), len(data)) == digest(data)
