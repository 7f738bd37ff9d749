"""Reports registers, spills and access widths of a plan's kernels."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stages import KernelPlan
from .body import Kernel
from .compile_ahead import compile_ahead, kernels_of, source_of
from .launch import import_triton


@dataclass(frozen=True)
class KernelReport:
    """What one compiled kernel is like. Accesses are loads and stores of global memory in its code."""

    kind: str
    ptx: str
    registers: int  # registers of a thread
    spill_bytes: int
    shared_bytes: int
    wide_accesses: int  # accesses of 16 bytes each
    narrow_accesses: int  # accesses of 2 bytes each
    seconds: float  # spent on compiling


def report(kernel: Kernel, arch: int = 90, whole: bool = True) -> KernelReport:
    """Compile a kernel for sm_`arch` and read its code, by the disassemblers in Triton's wheel."""
    began = time.monotonic()
    compiled = compile_ahead(kernel, arch, whole)
    return report_of(kernel.kind, compiled, time.monotonic() - began)


def report_of(kind: str, compiled: Any, seconds: float) -> KernelReport:
    """Read the code of what Triton compiled for a GPU."""
    triton = import_triton(interpret=False)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    cubin = next(path for name, path in compiled.metadata_group.items() if name.endswith(".cubin"))
    usage = run([str(tools / "cuobjdump"), "--dump-resource-usage", cubin])
    code = run([str(tools / "nvdisasm"), "-c", cubin])
    registers, stack, local, shared = (
        int(found[1]) if (found := re.search(rf"{word}:(\d+)", usage)) else 0
        for word in ("REG", "STACK", "LOCAL", "SHARED")
    )
    wide = len(re.findall(r"\b(?:LDG|STG)\S*\.128", code))
    narrow = len(re.findall(r"\b(?:LDG|STG)\S*\.U16", code))
    ptx = compiled.asm["ptx"]
    return KernelReport(kind, ptx, registers, stack + local, shared, wide, narrow, seconds)


def run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def show_source(plan: KernelPlan, form: str) -> str:
    """Return what `trace --show` prints; `form` is "triton" or "ptx"."""
    if form == "triton":
        return source_of(plan)
    return "\n\n".join(report(kernel).ptx for kernel in kernels_of(plan))
