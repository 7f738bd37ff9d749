"""Runs the rows of `bench` and describes the machine. A row with a wrong result has no speed."""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import keeping
from ..selfdev.cli.progress import Bar
from .caches import in_words, is_in_cache, largest_bytes, size_text
from .timing import LEAST_CPU_PER_WALL, Times, best_of

# A module in rows/ each; `bench --help` says what they measure.
ROWS = (
    "apply",
    "new",
    "sweep",
    "many",
    "order",
    "merge",
    "growth",
    "trace",
    "screen",
    "pool",
    "report",
)
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
    note: str = ""  # why the roof is not to be trusted; such a row has no gate

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
        """A row of GB/s: times["ours"] beside a roof, which moves the same bytes.

        The roof is the fastest function whose name begins with `floor`. The gate asks for at least
        `target` of its speed, and for `asked`, the other targets; a row with a `note` has none.
        """
        import torch

        threads, ours = torch.get_num_threads(), times["ours"]
        roof, bound = best_of(times, floor)
        ratio = bound.median_s / ours.median_s
        measured = device != "cpu" or ours.cpu_per_wall >= LEAST_CPU_PER_WALL * threads
        note = doubt(ratio, roof, moved_bytes, device)
        figures = {
            "percent_of_floor": 100 * ratio,
            "roof": roof,
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
            (ratio >= target and asked) if measured and not note else None,
            figures,
            measured,
            note,
        )


def doubt(ratio: float, roof: str, data_bytes: int, device: str) -> str:
    """Why the roof of a row is not to be trusted; "" if it is."""
    notes = []
    if device == "cpu" and is_in_cache(data_bytes):
        notes.append(
            f"in cache: {size_text(data_bytes)} of data, {size_text(largest_bytes())} of cache"
        )
    if ratio > 1:
        notes.append(f"{ratio:.0%} of the roof ({roof}): it is no roof here")
    return "; ".join(notes)


def run_rows(names: tuple[str, ...], zoo: Path, bar: Bar, device: str = "cpu") -> dict[str, Any]:
    """Measure these rows in order: {"machine", "caches", "date", "rows"}.

    Each row checks its results before it measures time. `device` is "cpu" or "cuda", for the rows
    that can run on either. PartlyDone where a row fails after others were measured.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        bar.stage(f"bench {name}")
        measure = importlib.import_module(f".rows.{name}", __package__).measure
        more = {"device": device} if name in ON_DEVICE else {}
        with keeping(lambda: result_of(rows) if rows else None):
            found = measure(zoo, bar.update, **more)
            rows.extend(asdict(row) for row in (found if isinstance(found, list) else [found]))
    return result_of(rows)


def result_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows, with the machine that they were measured on and the date (UTC)."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return {"machine": machine(), "caches": in_words(), "date": date, "rows": list(rows)}


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
