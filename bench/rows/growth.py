"""`growth`: how time and memory of `merge` grow from 13 M to 1 B parameters.

Time should grow linearly with the bytes, and memory should not grow. Each run is a whole process:
task_arithmetic with one expert in bf16. The models differ only in their number of layers. The
result is the k for which seconds = a + b * parameters^k fits best; a is the part that does not grow
(imports, the sandbox), and k = 1 is linear. The fastest run of each size counts.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..process import IMPORT, Usage, engine_command, usage_of
from ..registry import Row
from ..synthetic import Size, make_models
from ..timing import LEAST_CPU_PER_WALL

BASE = Size(1024, 2816, 1, 1000, 16, 4, 64)
LAYERS = (1, 3, 9, 27, 88)
ROUNDS = 3
EXPONENTS = [k / 100 for k in range(20, 301)]
MOST_EXPONENT, MOST_RSS_GROWTH = 1.1, 1.1


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """The exponent of time, and the peak memory of the largest model over that of the smallest."""
    sizes = [replace(BASE, layers=layers) for layers in LAYERS]
    runs: list[list[Usage]] = []
    imports: list[Usage] = []
    for done, size in enumerate(sizes):
        update(done, len(sizes))
        runs.append(merges(size))
        imports.append(usage_of(IMPORT))
    seconds = [min(u.seconds for u in found) for found in runs]
    peaks = [max(u.peak_rss_bytes for u in found) for found in runs]
    parameters = [size.num_parameters for size in sizes]
    slope, rss_growth = exponent(parameters, seconds), peaks[-1] / peaks[0]
    more: dict[str, Any] = {
        "parameters": parameters,
        "seconds": seconds,
        "seconds_of_all": [[u.seconds for u in found] for found in runs],
        "cpu_s": [min(u.cpu_s for u in found) for found in runs],
        "peak_rss_bytes": peaks,
        "rss_growth": rss_growth,
        "load": os.getloadavg()[0],
        "import_cpu_per_wall": statistics.median(u.cpu_s / u.seconds for u in imports),
    }
    measured = more["import_cpu_per_wall"] >= LEAST_CPU_PER_WALL
    met = slope <= MOST_EXPONENT and rss_growth <= MOST_RSS_GROWTH
    return Row(
        "growth", slope, "exponent of time", "linear", 1.0, slope,
        "time linear in the bytes, memory for the largest tensors only",
        met if measured else None, more, measured,
    )  # fmt: skip


def merges(size: Size) -> list[Usage]:
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as scratch:
        models = make_models(Path(scratch) / "models", size, torch.bfloat16, experts=1)
        out = Path(scratch) / "out"
        words = [*models.words, "--include", "all", "--out", out, "--overwrite"]
        command = engine_command("merge", "task_arithmetic", *words)
        found = []
        for _ in range(ROUNDS):
            os.sync()
            found.append(usage_of(command))
    return found


def exponent(parameters: Sequence[int], seconds: Sequence[float]) -> float:
    """The k of EXPONENTS with the best fit of a + b * parameters^k, by least squares."""

    def left(k: float) -> float:
        x = [(p / parameters[-1]) ** k for p in parameters]
        slope, start = statistics.linear_regression(x, seconds)
        return sum((start + slope * at - s) ** 2 for at, s in zip(x, seconds, strict=True))

    return min(EXPONENTS, key=left)
