"""--memory shared out: a key-value cache for each engine, and the bank, which holds what it can.

    --memory  =  a quarter for each engine's key-value cache  +  the bank
    bank      =  working memory  +  statistics  +  tensors held  +  sets of tensors in flight

What is held is mapped: its pages are one copy that driver and worker share, so it counts once. A
set is one tensor of base and experts, and its result; two are in flight in the driver and two in the
worker (one is read while the other is computed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..errors import UsageError

CACHES = 4  # what one engine's cache takes of --memory at most: one part in so many
STATISTICS = 16  # the same of the bank, for what one process remembers
WORKING_BYTES = 64 << 20  # samples, directions and chunks of a survey: 57 MiB measured
PROCESSES = 2  # driver and worker
SETS = 2 * PROCESSES
MIB = 1 << 20


class Home(Enum):
    """Where the tensors of base and experts are between two uses."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


@dataclass(frozen=True)
class TensorBytes:
    """Of one tensor: of base and experts together, and with a result beside them."""

    held: int
    in_flight: int


def cache_share(memory_bytes: int | None) -> int | None:
    """What each engine's key-value cache may take of --memory; None: not stated."""
    return None if memory_bytes is None else memory_bytes // CACHES


def bank_share(memory_bytes: int | None, num_engines: int, num_copies: int = 1) -> int | None:
    """What the caches leave; of each copy, where a worker's pinned memory is not the driver's."""
    if memory_bytes is None:
        return None
    return (memory_bytes - num_engines * (memory_bytes // CACHES)) // num_copies


def statistics_share(bank_bytes: int) -> int:
    """What each process may remember of statistics."""
    return bank_bytes // STATISTICS


def tensor_share(bank_bytes: int) -> int:
    """What is left for tensors, held and in flight. May be negative."""
    return bank_bytes - WORKING_BYTES - PROCESSES * statistics_share(bank_bytes)


def choose_homes(
    sizes: Mapping[str, TensorBytes], host_bytes: float, device_bytes: float = 0
) -> dict[str, Home]:
    """A home for each tensor: the device while it lasts, then the host, then the disk.

    Every use reads every tensor once, so a byte held saves as much as any other: as many are held as
    fit, the sets in flight counted. UsageError where even those do not fit.
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
    """As many bytes as fit beside the sets in flight of what is not held."""
    if sum(size.held for size in sizes.values()) <= host_bytes:
        return set(sizes)
    best: set[str] | None = None
    best_bytes, least = -1, math.inf
    for largest in {
        size.in_flight for size in sizes.values()
    }:  # of those that are read at each use
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
