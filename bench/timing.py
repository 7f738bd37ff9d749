"""Interleaved timing in one process, with what tells a disturbed round: CPU time over wall time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

REPEATS = 9
LEAST_CPU_PER_WALL = 0.9  # for each thread: two threads below 1.8 were not two threads


@dataclass(frozen=True)
class Times:
    """What one function took; percentiles over rounds."""

    seconds: tuple[float, ...]
    cpu_per_wall: float  # median

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
    """Each function once a round, in turn, after one round that is not counted.

    A watched function is called before it is timed: torch's threads look for work for milliseconds
    after the rival's call, on a core that ours want. On the CPU a round in which it had less CPU
    than its threads is kept only if too few others were seen: then its CPU per wall second says so.
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
    """Seconds, and CPU seconds per second, of each, `warm` ones after a call that is not counted.

    A GPU's work is waited for.
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


PIECE_BYTES = 2 << 30  # of a buffer that stands for more, on a GPU


def copier(moved_bytes: int, device: str = "cpu") -> Callable[[], object]:
    """Copies half as many bytes: as many are read and written."""
    times = 1 if device == "cpu" else -(-moved_bytes // (2 * PIECE_BYTES))
    source = torch.ones(moved_bytes // (2 * times), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return lambda: [target.copy_(source) for _ in range(times)]


def reader(read_bytes: int, device: str = "cpu") -> Callable[[], object]:
    """Reads as many bytes: by the extension's own threads, or by torch's sum on a GPU."""
    if device != "cpu":
        times = -(-read_bytes // PIECE_BYTES)
        data = torch.ones(read_bytes // (4 * times), device=device)
        return lambda: [data.sum() for _ in range(times)]
    from ..kernels.cpu.vm import load_extension

    source = torch.ones(read_bytes // 8, dtype=torch.int64)
    module, threads = load_extension(), torch.get_num_threads()
    return lambda: module.read_all(source.data_ptr(), source.numel(), threads)
