"""Compiles kernels ahead, in processes that need no GPU.

A launch looks for exactly these entries in Triton's cache: the same source, argument types, alignment
of addresses, constants and options. So the first launch of a kernel that was compiled here compiles
nothing.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from ..compiler.subgraphs import grouped, part
from ..ir import KernelGraph, Space
from ..stages import Apply, KernelPlan, Sweep
from . import digest
from .body import Kernel
from .cache import load_source
from .codegen import FINISH_BLOCK, MOST_REDUCTIONS, SPECS, generate, inputs_of, shared_kernel
from .launch import import_triton

POINTERS = {
    "table": "*i64",
    "chunk_row": "*i32",
    "numbers": "*fp32",
    "flags": "*i32",
    "pivots": "*i32",
    "low": "*i32",
    "high": "*i32",
    "starts": "*i64",
    "taken": "*i32",
}
FINISH_POINTERS = {"partial": "*i32", "bounds": "*i32", "out": "*fp64"}
# CPU seconds for one kernel, of the process that compiles it and of each that it starts.
MOST_COMPILE_S = 120
DIGEST_POINTERS = {"table": "*i64", "block_row": "*i32", "row_keys": "*i64", "totals": "*i64"}


@dataclass(frozen=True)
class Formats:
    """Formats of checkpoints, "bf16", "fp16" or "fp32": the base's, and others' by the expert's name."""

    base: str = "bf16"
    others: tuple[tuple[str, str], ...] = ()

    def of(self, graph: KernelGraph) -> tuple[str, ...]:
        """Return what `generate` is told: the formats of the base and of the graph's inputs."""
        others = dict(self.others)
        return (self.base, *(others.get(name, self.base) for name in inputs_of(graph)))


def kernels_of(plan: KernelPlan, formats: Formats = Formats()) -> Iterator[Kernel]:
    """Yield all kernels of a plan, for tensors of these formats."""
    for stage in plan.stages:
        if isinstance(stage, Apply):
            yield generate(stage.graph, "apply", formats.of(stage.graph))
        elif isinstance(stage, Sweep):
            yield from sweeps_of(stage.graph, formats)


def sweeps_of(graph: KernelGraph, formats: Formats) -> Iterator[Kernel]:
    """Yield all kernels of a sweep."""
    for (space, ranked), outputs in grouped(graph, partial(shared_kernel, graph), MOST_REDUCTIONS):
        wanted = part(graph, outputs)
        if not ranked:
            kind = {Space.SCALAR: "total", Space.ROW: "rows", Space.COL: "columns"}[space]
            yield generate(wanted, kind, formats.of(wanted))
        elif space is Space.SCALAR:
            yield generate(wanted, "below", formats.of(wanted))
            yield generate(wanted, "collect", formats.of(wanted))
        else:
            values = part(wanted, wanted.nodes[wanted.outputs[0]].args)
            yield generate(values, "apply", formats.of(values), merged=False)


def source_of(plan: KernelPlan, formats: Formats = Formats()) -> str:
    """Return the plan's generated kernels, as they are written to the cache."""
    return "\n\n".join(kernel.source for kernel in kernels_of(plan, formats))


def compile_ahead(kernel: Kernel, arch: int = 90, whole: bool = True) -> Any:
    """Return the kernel's compiled form for sm_`arch`, from Triton's cache or put there.

    `whole` is the kernel's WHOLE. No GPU is needed. Raises BackendError where Triton is missing.
    """
    function, spec = getattr(load_source(kernel.source), kernel.kind), SPECS[kernel.kind]
    sizes = {**spec.sizes, "WHOLE": whole}
    return compile_function(function, POINTERS, sizes, spec.options, arch)


def compile_finish(kernel: Kernel, arch: int) -> Any:
    """Return the compiled form of what adds up the partial results of a `total` kernel."""
    num = len(kernel.sums) + len(kernel.extremes)
    sizes = {"NUM": num, "NUM_SUMS": len(kernel.sums), "BLOCK": FINISH_BLOCK}
    function = load_source(kernel.source).finish
    return compile_function(function, FINISH_POINTERS, sizes, {"enable_fp_fusion": False}, arch)


def compile_function(
    function: Any,
    pointers: Mapping[str, str],
    sizes: Mapping[str, int],
    options: dict[str, Any],
    arch: int,
) -> Any:
    """Compile a function as a launch with these constants, options and aligned pointers would."""
    triton = import_triton(interpret=False)
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: pointers.get(name, "constexpr") for name in function.arg_names}
    constants = {(function.arg_names.index(name),): value for name, value in sizes.items()}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, t in enumerate(types.values()) if t.startswith("*")
    }
    source = ASTSource(function, types, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compile_digest(arch: int) -> Any:
    """Return the compiled form of the digest's kernel."""
    import_triton(interpret=False)
    from .digest_device import digest_chunks

    return compile_function(digest_chunks, DIGEST_POINTERS, digest.SIZES, digest.OPTIONS, arch)


class AheadCompiler:
    """Worker processes that fill Triton's cache while other work goes on.

    Each process calls `prepare` first. If `prepare` asks the operating system for it, a process ends
    when the thread that submits ends.
    """

    def __init__(
        self, arch: int, num_processes: int = 2, prepare: Callable[[], None] | None = None
    ) -> None:
        self.arch, self.num_processes, self.prepare = arch, num_processes, prepare
        self._pool = self._new_pool()
        self._begun = set[Kernel]()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        begin = partial(lead_group, self.prepare)
        return ProcessPoolExecutor(self.num_processes, mp_context=context, initializer=begin)

    def submit(self, plan: KernelPlan, formats: Formats = Formats()) -> list[Future[None]]:
        """Start compiling those of a plan's kernels that were not begun; return a future for each.

        Kernels of several formats are the same where they read no tensor that differs.
        """
        fresh = [kernel for kernel in kernels_of(plan, formats) if kernel not in self._begun]
        self._begun.update(fresh)
        try:
            return [self._pool.submit(compile_quietly, kernel, self.arch) for kernel in fresh]
        except BrokenExecutor:
            # A process ended under a kernel that took too long, and the others with it.
            self._pool = self._new_pool()
            return [self._pool.submit(compile_quietly, kernel, self.arch) for kernel in fresh]

    def close(self) -> None:
        """Drop what has not begun, and end what has: nobody waits for it."""
        # The pool forgets its processes once it is shut down.
        processes = list((self._pool._processes or {}).items())  # pyright: ignore
        self._pool.shutdown(wait=False, cancel_futures=True)
        for number, process in processes:
            # The group holds the assembler that it may have started.
            with suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
            # A process that has just begun leads no group yet.
            process.kill()


def lead_group(prepare: Callable[[], None] | None) -> None:
    """Let a compiling process and what it starts be ended together."""
    os.setpgid(0, 0)
    if prepare:
        prepare()


def limit_compilation(seconds: float) -> None:
    """End this process, and any that it starts, once it has used so much CPU from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def compile_quietly(kernel: Kernel, arch: int) -> None:
    limit_compilation(MOST_COMPILE_S)
    compile_ahead(kernel, arch)
    if kernel.kind == "total":
        compile_finish(kernel, arch)
