"""`growth`: `merge` of 13 M to 1 B parameters; time must grow with the bytes, memory not at all.

Whole processes, task_arithmetic with one expert in bf16; the models differ only in their number of
layers. The exponent is the slope of log(seconds) over log(parameters), both beyond the smallest
model's: what does not grow (imports, the sandbox) falls out, and 1 is linear.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..process import Usage, engine_command, usage_of
from ..registry import Row
from ..synthetic import Size, make_models

BASE = Size(1024, 2816, 1, 1000, 16, 4, 64)
LAYERS = (1, 3, 9, 27, 88)
ROUNDS = 3
MOST_EXPONENT, MOST_RSS_GROWTH = 1.1, 1.1


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """The exponent of time; the largest model's peak memory over the smallest's."""
    sizes = [replace(BASE, layers=layers) for layers in LAYERS]
    runs: list[list[Usage]] = []
    for done, size in enumerate(sizes):
        update(done, len(sizes))
        runs.append(merges(size))
    seconds = [statistics.median(u.seconds for u in found) for found in runs]
    peaks = [max(u.peak_rss_bytes for u in found) for found in runs]
    parameters = [size.num_parameters for size in sizes]
    slope, rss_growth = exponent(parameters, seconds), peaks[-1] / peaks[0]
    more = {
        "parameters": parameters,
        "seconds": seconds,
        "seconds_spread": [[min(u.seconds for u in f), max(u.seconds for u in f)] for f in runs],
        "cpu_s": [statistics.median(u.cpu_s for u in found) for found in runs],
        "peak_rss_bytes": peaks,
        "load": os.getloadavg()[0],
    }
    met = slope <= MOST_EXPONENT and rss_growth <= MOST_RSS_GROWTH
    return Row(
        "growth", slope, "exponent of time", "peak RSS, 1 B over 13 M", rss_growth, slope,
        "time linear in bytes, memory of the largest tensors", met, more,
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
    """Least squares of log against log, beyond the first of each."""
    x = [math.log(p - parameters[0]) for p in parameters[1:]]
    y = [math.log(max(1e-3, s - seconds[0])) for s in seconds[1:]]
    return statistics.linear_regression(x, y).slope
