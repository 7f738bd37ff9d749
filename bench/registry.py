"""The rows of `bench`, the machine they ran on, and the rule that a wrong result has no speed."""

from __future__ import annotations

import importlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROWS = {  # row -> what it measures
    "apply": "bytes per second of a 15-op merge in memory, against a plain copy",
    "trace": "programs per second through the full sandbox, against an empty program",
    "screen": "candidates per second in live weights, against merge to disk and a fresh engine",
}


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


def run_rows(names: tuple[str, ...], zoo: Path, bar: Any) -> dict[str, Any]:
    """Measure the rows in order: {"machine", "rows"}. A row checks its results before it times."""
    rows = []
    for name in names:
        bar.stage(f"bench {name}")
        measure = importlib.import_module(f".rows.{name}", __package__).measure
        rows.append(asdict(measure(zoo, bar.update)))
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
