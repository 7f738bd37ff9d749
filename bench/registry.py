"""Runs the rows of `bench` and describes the machine. A row with a wrong result has no speed."""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..selfdev.cli.progress import Bar
from .timing import LEAST_CPU_PER_WALL, Times

# A module in rows/ each; `bench --help` says what they measure.
ROWS = ("apply", "sweep", "many", "order", "merge", "growth", "trace", "screen")
# Rows that can run on a GPU, too.
ON_DEVICE = ("apply", "sweep", "many", "order")


class BenchError(RuntimeError):
    """A measured figure that cannot be true. The message is one line."""


@dataclass(frozen=True)
class Row:
    """One measured ratio.

    `gate` says whether the targets are met; it is None if this machine could not measure them.
    """

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    ratio: float
    floor: str  # in words: what no implementation can beat
    gate: bool | None
    more: dict[str, Any] = field(default_factory=dict)  # further figures of the same run
    measured: bool = True  # False if the machine was disturbed: the figures say nothing

    @staticmethod
    def of_bandwidth(
        name: str,
        moved_bytes: int,
        times: Mapping[str, Times],
        *,
        floor: str,
        target: float = 0.0,
        asked: bool = True,
        more: Mapping[str, Any],
        device: str = "cpu",
    ) -> Row:
        """A row of GB/s: times["ours"] beside times[floor], which move the same bytes.

        The gate asks for at least `target` of the floor's speed, and for `asked`, the other
        targets. BenchError if ours is faster than the floor.
        """
        import torch

        ours, bound, threads = times["ours"], times[floor], torch.get_num_threads()
        ratio = bound.median_s / ours.median_s
        measured = device != "cpu" or ours.cpu_per_wall >= LEAST_CPU_PER_WALL * threads
        if ratio > 1 and measured:
            raise BenchError(f"bench {name}: {ratio:.0%} of a {floor}: more than the floor allows")
        figures = {
            "percent_of_floor": 100 * ratio,
            "device": device,
            "spread_ms": [1e3 * s for s in ours.spread_s],
            "cpu_per_wall": ours.cpu_per_wall,
            "threads": threads,
            "moved_bytes": moved_bytes,
            "rounds": len(ours.seconds),
            **more,
        }
        return Row(
            name,
            moved_bytes / ours.median_s / 1e9,
            "GB/s",
            f"{floor} GB/s",
            moved_bytes / bound.median_s / 1e9,
            ratio,
            f"a plain {floor} of the same bytes by as many threads"
            if device == "cpu"
            else f"a plain {floor} of the same bytes on the GPU",
            (ratio >= target and asked) if measured else None,
            figures,
            measured,
        )


def run_rows(names: tuple[str, ...], zoo: Path, bar: Bar, device: str = "cpu") -> dict[str, Any]:
    """Measure these rows in order: {"machine", "rows"}.

    Each row checks its results before it measures time. `device` is "cpu" or "cuda", for the rows
    that can run on either.
    """
    rows = []
    for name in names:
        bar.stage(f"bench {name}")
        measure = importlib.import_module(f".rows.{name}", __package__).measure
        more = {"device": device} if name in ON_DEVICE else {}
        rows.append(asdict(measure(zoo, bar.update, **more)))
    return {"machine": machine(), "rows": rows}


def machine() -> str:
    """One line that describes this machine: processor, cores, memory, GPU, versions."""
    import torch

    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{processor()}, {cores} cores, {memory_gib:.0f} GiB, {gpu}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


def write_results(result: dict[str, Any], path: Path) -> None:
    """Write the result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
