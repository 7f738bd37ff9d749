"""Knows the caches of this machine, and how much data a row needs so that no cache holds it."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

CPUS, MEMORY = Path("/sys/devices/system/cpu"), Path("/proc/meminfo")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
# Data are this many times the largest cache, or the row says "in cache".
TIMES_CACHE = 4
# Data take at most this, and at most 1 / MEMORY_SHARE of the memory that is available.
MOST_BYTES, MEMORY_SHARE = 4_000_000_000, 3
# The largest cache where the system does not tell its caches.
UNKNOWN_BYTES = 64 << 20


def cache_sizes(cpus: Path = CPUS) -> dict[int, int]:
    """{level: bytes} of the data caches that our cores reach; a shared cache counts once."""
    seen: dict[tuple[int, str], int] = {}
    for core in os.sched_getaffinity(0):
        for index in (cpus / f"cpu{core}" / "cache").glob("index*"):
            try:
                kind, level, size, shared = (
                    (index / name).read_text().strip()
                    for name in ("type", "level", "size", "shared_cpu_list")
                )
            except OSError:
                continue
            if kind != "Instruction" and size[:-1].isdigit():
                seen[int(level), shared] = int(size[:-1]) * UNITS.get(size[-1], 1)
    sizes: dict[int, int] = {}
    for (level, _), size in seen.items():
        sizes[level] = sizes.get(level, 0) + size
    return dict(sorted(sizes.items()))


def largest_bytes() -> int:
    """Bytes of the largest level of cache."""
    return max(cache_sizes().values(), default=UNKNOWN_BYTES)


def in_words() -> str:
    """The caches in a line: "L1 96 KiB, L2 4 MiB, L3 260 MiB"."""
    found = cache_sizes().items()
    return ", ".join(f"L{level} {size_text(size)}" for level, size in found) or "caches unknown"


def size_text(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def sets_for(set_bytes: int, least: int = 1, cache_bytes: int | None = None) -> int:
    """Number of sets of tensors that no cache holds together; fewer where memory does not allow it."""
    cache = largest_bytes() if cache_bytes is None else cache_bytes
    wanted = max(least, math.ceil(TIMES_CACHE * cache / set_bytes))
    return max(1, min(wanted, room_bytes() // set_bytes))


def room_bytes() -> int:
    """Bytes that data may take on this machine now."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", MEMORY.read_text()) if MEMORY.exists() else None
    available = (
        int(found[1]) << 10 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    )
    return min(MOST_BYTES, available // MEMORY_SHARE)


def is_in_cache(data_bytes: int) -> bool:
    """Whether a cache may hold so much of the data that it is read faster than memory."""
    return data_bytes < TIMES_CACHE * largest_bytes()
