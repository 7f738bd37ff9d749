"""Times functions in turns within one process, and notices when the machine was disturbed.

The sign of a disturbed round is that it got less CPU time than its wall time allows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

REPEATS = 9
# For each thread. Two threads with less than 1.8 did not both run all the time.
LEAST_CPU_PER_WALL = 0.9


@dataclass(frozen=True)
class Times:
    """Seconds of one function in each round."""

    seconds: tuple[float, ...]
    cpu_per_wall: float  # median over the rounds

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread_s(self) -> tuple[float, float]:
        """20th and 80th percentile."""
        ordered = sorted(self.seconds)
        last = len(ordered) - 1
        return ordered[round(0.2 * last)], ordered[round(0.8 * last)]


def timed(
    functions: dict[str, Callable[[], object]],
    rounds: int = REPEATS,
    watched: tuple[str, ...] = ("ours",),
    device: str = "cpu",
) -> dict[str, Times]:
    """Call each function once in a round, in turn; the first round is not counted.

    A watched function is called once more before it is timed: after a rival's call, torch's threads
    look for work for some milliseconds, on cores that ours need. On the CPU, a round counts only if
    every watched function got 90 % of the CPU time that its threads could use. If after 2 * `rounds`
    too few rounds count, all are used; `cpu_per_wall` then shows that the machine was disturbed.
    """
    least = LEAST_CPU_PER_WALL * torch.get_num_threads() if device == "cpu" else 0.0
    seen: list[dict[str, tuple[float, float]]] = []
    one_round(functions, (), device)
    while len(seen) < 2 * rounds:
        seen.append(one_round(functions, watched, device))
        quiet = [r for r in seen if all(r[w][1] >= least for w in watched)]
        if len(quiet) >= rounds:
            seen = quiet
            break
    return {
        name: Times(tuple(r[name][0] for r in seen), statistics.median(r[name][1] for r in seen))
        for name in functions
    }


def one_round(
    functions: dict[str, Callable[[], object]], warm: tuple[str, ...], device: str = "cpu"
) -> dict[str, tuple[float, float]]:
    """(seconds, CPU seconds per second) of each function; includes the work on the GPU.

    Functions named in `warm` are called once before that.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = {}
    for name, function in functions.items():
        if name in warm:
            function()
        wait()
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        wait()
        seconds = time.perf_counter() - wall
        found[name] = (seconds, (time.process_time() - cpu) / seconds)
    return found


# ---- floors: the same bytes, the same threads, nothing computed -----------------------------------


# Largest buffer on a GPU; more bytes are moved by several passes over one buffer.
PIECE_BYTES = 2 << 30


def copier(moved_bytes: int, device: str = "cpu") -> Callable[[], object]:
    """Function that copies half of `moved_bytes`, so that it reads and writes `moved_bytes`."""
    times = 1 if device == "cpu" else -(-moved_bytes // (2 * PIECE_BYTES))
    source = torch.ones(moved_bytes // (2 * times), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return lambda: [target.copy_(source) for _ in range(times)]


def readers(read_bytes: int, device: str = "cpu") -> dict[str, Callable[[], object]]:
    """Functions that read `read_bytes` in plain ways, and a copy that moves as many.

    The fastest of them is the roof: on some processors a copy is faster than a sum.
    """
    copy = {"read: copy": copier(read_bytes, device)}
    if device != "cpu":
        return {"read: torch sum": gpu_reader(read_bytes, device), **copy}
    from ..kernels.cpu.extension import load_extension

    words = torch.ones(read_bytes // 8, dtype=torch.int64)
    floats = words.view(torch.float32)
    module, threads = load_extension(), torch.get_num_threads()
    return {
        "read: words": lambda: module.read_all(words.data_ptr(), words.numel(), threads),
        "read: torch sum": lambda: floats.sum(),
        "read: torch max": lambda: words.max(),
        **copy,
    }


def gpu_reader(read_bytes: int, device: str) -> Callable[[], object]:
    """Function that reads `read_bytes` on a GPU, by torch.sum."""
    times = -(-read_bytes // PIECE_BYTES)
    data = torch.ones(read_bytes // (4 * times), device=device)
    return lambda: [data.sum() for _ in range(times)]


def best_of(times: Mapping[str, Times], prefix: str) -> tuple[str, Times]:
    """Name and times of the fastest function whose name begins with `prefix`."""
    found = {name: spent for name, spent in times.items() if name.startswith(prefix)}
    name = min(found, key=lambda name: found[name].median_s)
    return name, found[name]
