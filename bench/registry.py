"""The rows of `bench`, the machine they ran on, and the rule that a wrong result has no speed."""

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

ROWS = {  # row -> what it measures
    "apply": "bytes per second of a 15-op merge in memory, against a plain copy",
    "sweep": "bytes per second of 12 statistics of 3 task vectors, against a plain read",
    "many": "12 statistics of each of 100 candidates in one pass, against one candidate's",
    "order": "an exact 80th percentile of 50 M magnitudes, against sort and kthvalue",
    "merge": "seconds of a merge disk to disk, 0.5 B parameters, against mergekit",
    "growth": "how time and memory of a merge grow from 13 M to 1 B parameters",
    "trace": "programs per second through the full sandbox, against an empty program",
    "screen": "candidates per second in live weights, against merge to disk and a fresh engine",
}


class BenchError(RuntimeError):
    """A figure that cannot be true; one line."""


@dataclass(frozen=True)
class Row:
    """One measured ratio. `gate` is None where no figure is asked for on this machine."""

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    ratio: float
    floor: str  # the bound that physics or the method sets, in words
    gate: bool | None
    more: dict[str, Any] = field(default_factory=dict)  # further figures of the same run
    measured: bool = True  # False: the machine was disturbed, the figures say nothing

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
        """GB/s of times["ours"] beside those of the floor. `asked`: whether other demands are met."""
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
            f"the plan's bytes at the bandwidth of a {floor} by as many threads"
            if device == "cpu"
            else f"the plan's bytes at the bandwidth of a {floor} on the GPU",
            (ratio >= target and asked) if measured else None,
            figures,
            measured,
        )


ON_DEVICE = ("apply", "sweep", "many", "order")  # rows that a GPU can run


def run_rows(names: tuple[str, ...], zoo: Path, bar: Bar, device: str = "cpu") -> dict[str, Any]:
    """Measure the rows in order: {"machine", "rows"}. A row checks its results before it times.

    `device`: "cpu" or "cuda", for the rows that can run on either.
    """
    rows = []
    for name in names:
        bar.stage(f"bench {name}")
        measure = importlib.import_module(f".rows.{name}", __package__).measure
        more = {"device": device} if name in ON_DEVICE else {}
        rows.append(asdict(measure(zoo, bar.update, **more)))
    return {"machine": machine(), "rows": rows}


def machine() -> str:
    """One line: processor, cores, memory, versions."""
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
    """Keep a result beside the code, with the machine it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
