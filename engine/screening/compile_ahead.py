"""Compiles a worker's kernels while its engine still scores earlier candidates.

Processes without a GPU compile for the worker's, and fill the cache on disk that both look into.
This is a help only: a kernel that is not there when it is launched is compiled by the launch.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from typing import TYPE_CHECKING

import torch

from ...kernels.execution.joint import by_algebra
from ...kernels.ir import KernelGraph
from ...kernels.stages import KernelPlan, Stage, Sweep
from ..plans.plan import Fused, Plan, compiled
from ..sandbox.guard import die_with_parent
from ..weights.bank import Bank

if TYPE_CHECKING:
    from ...kernels.triton.compile_ahead import AheadCompiler

# Of the base, and of experts by name where theirs is another; hashable.
Combination = tuple[str, tuple[tuple[str, str], ...]]
FORMATS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass
class Ahead:
    """Compiles kernels of plans for `arch` (90 means sm_90), once it is known; each stage once.

    Only one thread may use it; its processes do not outlive that thread.
    """

    # The formats of base and experts in which some tensors are; kernels differ by them.
    combinations: tuple[Combination, ...]
    arch: int | None = None
    _compiler: AheadCompiler | None = None
    _submitted: set[tuple[type[Stage], KernelGraph]] = field(default_factory=set)
    # Keys of the statistics that the worker will remember.
    _known: set[str] = field(default_factory=set)

    @staticmethod
    def of(bank: Bank) -> Ahead:
        """Make one for the formats of this bank's tensors."""
        return Ahead(tuple(sorted({combination(bank, name) for name in bank.selection.names})))

    def submit(self, plan: Plan) -> None:
        """Compile the kernels of a plan that the worker will be given later.

        Nothing happens where the worker has no GPU.
        """
        if self.arch is None:
            return
        # Not needed without a GPU.
        from ...kernels.triton.compile_ahead import AheadCompiler, Formats

        if self._compiler is None:
            self._compiler = AheadCompiler(self.arch, prepare=prepare)
        fused = (one for one in plan.tensors.values() if isinstance(one, Fused))
        for graph in dict.fromkeys(one.graph for one in fused):
            wanted = self._new_of(compiled(graph))
            with suppress(BrokenExecutor):
                for formats in self.combinations if wanted.stages else ():
                    self._compiler.submit(wanted, Formats(*formats))

    def _new_of(self, plan: KernelPlan) -> KernelPlan:
        """Return the plan without the stages that were submitted before.

        A sweep's kernel computes only statistics that are neither remembered from earlier plans nor
        found by algebra.
        """
        stages = list[Stage]()
        for stage in plan.stages:
            if isinstance(stage, Sweep):
                pairs = list(zip(stage.keys, stage.graph.outputs, strict=True))
                missing = tuple(
                    o
                    for k, o in pairs
                    if k not in self._known and not by_algebra(stage.graph, k, o)
                )
                self._known.update(stage.keys)
                stage = replace(stage, graph=KernelGraph(stage.graph.nodes, missing))
            kernel = type(stage), stage.graph
            if stage.graph.outputs and kernel not in self._submitted:
                self._submitted.add(kernel)
                stages.append(stage)
        return replace(plan, stages=tuple(stages))

    def close(self) -> None:
        """Drop the compilations that have not begun."""
        if self._compiler is not None:
            self._compiler.close()
            self._compiler = None


def combination(bank: Bank, name: str) -> Combination:
    """Return the formats of a tensor in base and experts."""
    base = bank.selection.base.dtype(name)
    kinds = {expert: model.dtype(name) for expert, model in bank.selection.experts.items()}
    others = tuple((e, FORMATS[kind]) for e, kind in kinds.items() if kind != base)
    return FORMATS[base], others


def prepare() -> None:
    """Set up a compiling process: it ends with the driver, and only the driver is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    driver = parent_process()
    # The driver may have died before the kernel was asked to end this process with it.
    if driver is None or not driver.is_alive():
        os._exit(1)
