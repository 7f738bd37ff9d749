"""Kernels compiled ahead, without a GPU, and what their machine code is like."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..stages import Apply, Plan
from .cache import load_source
from .codegen import BLOCK, ITERS, NUM_WARPS, PRELUDE, generate
from .launch import import_triton

POINTERS = {"bf16": "*bf16", "fp16": "*fp16", "fp32": "*fp32"}


@dataclass(frozen=True)
class KernelReport:
    """Of one compiled kernel; accesses are counts of global loads and stores by width."""

    ptx: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    wide_accesses: int  # 16 bytes
    narrow_accesses: int  # 2 bytes
    seconds: float


def source_of(plan: Plan, dtype: str = "bf16") -> str:
    """The generated kernel of a plan's last stage, as it is written to the cache."""
    apply = plan.stages[-1]
    assert isinstance(apply, Apply)
    num_inputs = len({n.attrs[0] for n in apply.graph.nodes if n.op.value == "input"})
    kernel = generate(apply.graph, "apply", [dtype] * (1 + num_inputs), True)
    return PRELUDE.format(interpret=False) + kernel.source


def compile_ahead(
    plan: Plan, arch: int = 90, dtype: str = "bf16", vector: bool = True
) -> KernelReport:
    """Compile the plan's element-wise pass for sm_`arch`. Needs triton, no GPU."""
    triton = import_triton(interpret=False)
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = load_source(source_of(plan, dtype)).apply
    types = {n: argument_type(n, dtype) for n in function.arg_names}
    constants = {"BLOCK": BLOCK, "ITERS": ITERS, "VECTOR": vector}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, t in enumerate(types.values()) if t.startswith("*")
    }
    aligned |= {
        (i,): [["tt.divisibility", 16]] for i, n in enumerate(types) if n == "first" and vector
    }
    began = time.monotonic()
    kernel = triton.compile(
        ASTSource(function, types, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": NUM_WARPS, "enable_fp_fusion": False},
    )
    return report(kernel, time.monotonic() - began, Path(triton.__file__).parent)


def argument_type(name: str, dtype: str) -> str:
    if name in ("BLOCK", "ITERS", "VECTOR"):
        return "constexpr"
    if name in ("first", "n", "num_cols"):
        return "i64"
    if name == "flag":
        return "*i32"
    return "*fp32" if name == "params" or re.fullmatch(r"[rc]\d+", name) else POINTERS[dtype]


def report(kernel: object, seconds: float, triton: Path) -> KernelReport:
    """Registers and spills from the wheel's own disassemblers."""
    tools = triton / "backends" / "nvidia" / "bin"
    group: dict[str, str] = kernel.metadata_group  # type: ignore[attr-defined]
    cubin = next(path for name, path in group.items() if name.endswith(".cubin"))
    usage = run([str(tools / "cuobjdump"), "--dump-resource-usage", cubin])
    code = run([str(tools / "nvdisasm"), "-c", cubin])
    registers, stack, local, shared = (
        int(found[1]) if (found := re.search(rf"{word}:(\d+)", usage)) else 0
        for word in ("REG", "STACK", "LOCAL", "SHARED")
    )
    wide = len(re.findall(r"\b(?:LDG|STG)\S*\.128", code))
    narrow = len(re.findall(r"\b(?:LDG|STG)\S*\.U16", code))
    ptx: str = kernel.asm["ptx"]  # type: ignore[attr-defined]
    return KernelReport(ptx, registers, stack + local, shared, wide, narrow, seconds)


def run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def show_source(plan: Plan, form: str) -> str:
    """What `trace --show triton|ptx` prints."""
    return source_of(plan) if form == "triton" else compile_ahead(plan).ptx
