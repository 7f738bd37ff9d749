"""`doctor`: checks what this machine can do, and says how to add what is missing."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...engine.extras import clone, install_line
from ...engine.weights.machine import host_bytes
from .command import DONE, USAGE, Result, command

Check = dict[str, Any]

# For each module: the extra that installs it, and what does not work without it.
EXTRAS = {
    "vllm": ("cpu", "screen, eval and run answer by transformers, slowly"),
    "transformers": ("train", "zoo and training"),
    "trl": ("train", "the loop's training stage"),
    "peft": ("train", "the loop's training stage"),
    "triton": ("triton", "--backend triton"),
    "math_verify": ("eval", "LaTeX answers are compared by spelling only"),
}
LEAST_MEMORY_GIB, LEAST_DISK_GIB = 4, 2


def check(name: str, ok: bool, required: bool, detail: str, fix: str = "") -> Check:
    return {"name": name, "ok": ok, "required": required, "detail": detail, "fix": fix}


def python_checks() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield check("python", sys.version_info >= (3, 11), True, version, "install Python 3.11")
    import torch

    yield check("torch", True, True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield gpu_check(torch.cuda.is_available())


def gpu_check(gpu: bool) -> Check:
    if not gpu:
        fix = "needs a CUDA build of torch and a driver"
        return check("gpu", False, False, "none; the cpu backend is used", fix)
    import torch

    try:
        return check("gpu", True, False, cards() or torch.cuda.get_device_name())
    except UsageError as error:
        return check("gpu", False, False, "cannot be used as it is", str(error))


def cards() -> str:
    """The cards that the driver reports, with their bytes."""
    from ...engine.weights.machine import GIB, gpus_here

    return "; ".join(
        f"{gpu.name}, {gpu.free_bytes / GIB:.1f} of {gpu.size_bytes / GIB:.1f} GiB free"
        for gpu in gpus_here()
    )


def extension_check() -> Check:
    try:
        from ...kernels import _cpu  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        folder = clone() or Path("FOLDER_OF_THE_SOURCES")
        fix = f"{shlex.join([sys.executable, '-m', 'pip', 'install', '-e', str(folder)])} "
        fix += "(it needs a C++17 compiler on PATH)"
        return check("cpu kernels", False, True, f"the C++ extension is absent: {error}", fix)
    return check("cpu kernels", True, True, f"instruction set {_cpu.best_isa()}")


def extra_checks() -> Iterator[Check]:
    import torch

    for module, (extra, lost) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        extra = "cuda" if extra == "cpu" and torch.cuda.is_available() else extra
        fix = "" if there else install_line(extra)
        yield check(module, there, False, "installed" if there else f"absent: {lost}", fix)


def sandbox_checks() -> list[Check]:
    from ...engine.sandbox.layers import layers

    return [{**layer, "name": f"sandbox: {layer['name']}"} for layer in layers()]


def room_checks() -> Iterator[Check]:
    memory_gib = host_bytes() / 2**30
    enough = memory_gib >= LEAST_MEMORY_GIB
    yield check("memory", enough, False, f"{memory_gib:.0f} GiB", "" if enough else "add memory")
    free_gib = shutil.disk_usage(".").free / 2**30
    enough = free_gib >= LEAST_DISK_GIB
    yield check(
        "disk", enough, False, f"{free_gib:.0f} GiB free here", "" if enough else "free some"
    )


def render(result: Result) -> str:
    lines = []
    for row in result["checks"]:
        mark = "ok  " if row["ok"] else "FAIL" if row["required"] else "--  "
        fix = f"  -> {row['fix']}" if row["fix"] and not row["ok"] else ""
        lines.append(f"{mark} {row['name']:<28} {row['detail']}{fix}")
    return "\n".join(lines)


@command(
    "doctor",
    render,
    exit_code=lambda result: DONE if result["ok"] else USAGE,
    example="selfdev-engine doctor",
)
def doctor_command() -> Result:
    """Check what this machine can do. The exit code is 2 if a required part is missing."""
    checks = [*python_checks(), extension_check(), *extra_checks(), *sandbox_checks()]
    checks += room_checks()
    return {"ok": all(c["ok"] for c in checks if c["required"]), "checks": checks}
