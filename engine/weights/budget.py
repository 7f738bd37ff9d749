"""How --memory is divided: each engine gets a key-value cache, the bank gets the rest.

    --memory  =  a quarter for each engine's key-value cache  +  the bank
    bank      =  working memory  +  statistics  +  tensors held  +  sets of tensors in flight

Tensors that are held are mapped. Driver and worker share one copy of their pages, so it counts
once. A set is one tensor of base and experts, and its result. Two sets are in flight in the driver
and two in the worker: one is read while the other is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..errors import UsageError

# The cache of one engine, or of one in each worker together, takes at most 1 / CACHES of --memory.
CACHES = 4
# The statistics that one process remembers take at most 1 / STATISTICS of the bank.
STATISTICS = 16
# Room for the samples, directions and chunks of a survey: 57 MiB were measured.
WORKING_BYTES = 64 << 20
# The driver and the worker; each has two sets in flight.
PROCESSES = 2
SETS = 2 * PROCESSES
MIB = 1 << 20


class Home(Enum):
    """The place where a tensor of base and experts is kept between two uses."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


@dataclass(frozen=True)
class TensorBytes:
    """The bytes that one tensor takes.

    `held` counts it in base and experts together; `in_flight` adds the result beside them.
    """

    held: int
    in_flight: int


def cache_share(memory_bytes: int | None, num_workers: int = 1) -> int | None:
    """Return the bytes that each engine's key-value cache may take; workers divide what one would.

    None means that --memory is not given.
    """
    return None if memory_bytes is None else memory_bytes // CACHES // num_workers


def bank_share(memory_bytes: int | None, num_engines: int, num_copies: int = 1) -> int | None:
    """Return the bytes of one copy of the bank: what the engines' caches leave.

    `num_copies` is 2 where workers pin tensors in one bank, since the driver then has a copy of its
    own. None means that --memory is not given.
    """
    if memory_bytes is None:
        return None
    return (memory_bytes - num_engines * (memory_bytes // CACHES)) // num_copies


def statistics_share(bank_bytes: int) -> int:
    """Return the bytes of statistics that each process may remember."""
    return bank_bytes // STATISTICS


def tensor_share(bank_bytes: int) -> int:
    """Return the bytes that are left for tensors, held and in flight; may be negative."""
    return bank_bytes - WORKING_BYTES - PROCESSES * statistics_share(bank_bytes)


def choose_homes(
    sizes: Mapping[str, TensorBytes], host_bytes: float, device_bytes: float = 0
) -> dict[str, Home]:
    """Choose a home for each tensor: the device while it has room, then the host, then the disk.

    Every use reads every tensor once, so a held byte saves as much as any other. As many bytes are
    held as fit beside the sets in flight. UsageError where not even those sets fit.
    """
    homes: dict[str, Home] = {}
    for name, size in sizes.items():
        if size.held <= device_bytes:
            homes[name], device_bytes = Home.DEVICE, device_bytes - size.held
    rest = {name: size for name, size in sizes.items() if name not in homes}
    held = held_on_host(rest, host_bytes)
    homes |= {name: Home.HOST if name in held else Home.DISK for name in rest}
    return homes


def held_on_host(sizes: Mapping[str, TensorBytes], host_bytes: float) -> set[str]:
    """Return the names to hold: as many bytes as fit beside the sets in flight of the others.

    UsageError where not even the sets in flight fit.
    """
    if sum(size.held for size in sizes.values()) <= host_bytes:
        return set(sizes)
    best: set[str] | None = None
    best_bytes, least = -1, math.inf
    # Try each size as that of the largest tensor that is not held, so is read at each use.
    for largest in {size.in_flight for size in sizes.values()}:
        held = {name for name, size in sizes.items() if size.in_flight > largest}
        used = SETS * largest + sum(sizes[name].held for name in held)
        least = min(least, used)
        if used > host_bytes:
            continue
        for name, size in sizes.items():
            if name not in held and used + size.held <= host_bytes:
                held.add(name)
                used += size.held
        held_bytes = sum(sizes[name].held for name in held)
        if held_bytes > best_bytes:
            best, best_bytes = held, held_bytes
    if best is None:
        raise UsageError(
            f"--memory: {max(0.0, host_bytes) / MIB:.0f} MiB of it are left for tensors of base and "
            f"experts beside caches and working memory; they take {least / MIB:.0f} MiB at least "
            f"({SETS} sets in flight): allow more, or select fewer tensors (--include)"
        )
    return best
