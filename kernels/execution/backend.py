"""Runs plans: the interface of backends, and the walk over stages that all of them share.

    merge     out = base + update, rounded once to the base's dtype
    update    the float32 update alone
    values    the small numbers that a value question asked for

A backend says how to run a Sweep and an Apply, for one tensor or for many that share a structure: a
GPU wants them in one launch. Slots, memos and host steps are the same for all backends. The clock of
the caller (compiler/clock.py) is looked at between stages and passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from ..compiler.clock import check
from ..ir import KernelGraph
from ..reference import evaluate
from ..stages import Apply, Host, KernelPlan, Stage, Sweep, structure
from ..tensors import Job, Memo, Slots, TensorSet
from .fit import check_fit
from .joint import WantedSweep, from_moments, joined_by_graph, known_moments
from .moments import moments_by_torch
from .price import check_price


class Backend(ABC):
    """Runs plans. A subclass is final and defines `sweep`, `apply` and `expression`."""

    name: str
    # What host steps compute in, unless an op is DOUBLE.
    host_dtype = torch.float32

    @abstractmethod
    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        """Return the graph's outputs, all reductions: [] in float64, [R, 1] or [1, C]."""

    @abstractmethod
    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        """Write base + update into `out` and return whether all results are finite."""

    @abstractmethod
    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        """Return the update alone: float32, in the base's shape."""

    def sweep_all(
        self, graph: KernelGraph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> list[list[Tensor]]:
        """`sweep` for many tensors, one after the other unless a backend knows better."""
        return [self.sweep(graph, *one) for one in zip(sets, slots, strict=True)]

    def apply_all(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        """`apply` for many tensors, one after the other unless a backend knows better."""
        return [self.apply(graph, *one) for one in zip(sets, slots, outs, strict=True)]

    @final
    def merge(
        self, plan: KernelPlan, tensors: TensorSet, out: Tensor, memo: Memo | None = None
    ) -> bool:
        """Write base + update into `out`, which has the base's dtype and shape.

        Returns False if a result is NaN or Inf; `out` is then of no use.
        """
        (finite,) = self.merge_all([Job(plan, tensors, out, memo)])
        return finite

    @final
    def merge_all(self, jobs: Sequence[Job]) -> list[bool]:
        """`merge` for many tensors, stage by stage. Their plans must have one `structure`."""
        for job in jobs:
            base = job.tensors.base
            assert job.out.shape == base.shape and job.out.dtype == base.dtype
            assert structure(job.plan) == structure(jobs[0].plan), "plans of several structures"
        sets, outs = [job.tensors for job in jobs], [job.out for job in jobs]
        slots = self.run_stages([job.plan for job in jobs], sets, [job.memo for job in jobs])
        check()
        return self.apply_all(_apply_of(jobs[0].plan), sets, slots, outs)

    @final
    def update(self, plan: KernelPlan, tensors: TensorSet, memo: Memo | None = None) -> Tensor:
        """Return the update before it is added to the base: float32, in the base's shape."""
        (slots,) = self.run_stages([plan], [tensors], [memo])
        return self.expression(_apply_of(plan), tensors, slots)

    @final
    def starts(
        self, plans: Sequence[KernelPlan], tensors: TensorSet, memo: Memo | None, num_rows: int
    ) -> list[Tensor]:
        """Return the first rows of each plan's update, float32 [num_rows, C].

        Only the plans' sweeps read the other rows.
        """
        slots = self.run_stages(plans, [tensors] * len(plans), [memo] * len(plans))
        first = tensors.first(num_rows)
        found = list[Tensor]()
        for plan, own in zip(plans, slots, strict=True):
            check()
            found.append(self.expression(_apply_of(plan), first, _cut(own, num_rows)))
        return found

    @final
    def values(
        self, plan: KernelPlan, tensors: TensorSet, memo: Memo | None = None
    ) -> list[Tensor]:
        """Return the plan's outputs, float32 or float64: [], [R, 1] or [1, C]."""
        return self.values_all([plan], [tensors], [memo])[0]

    @final
    def values_all(
        self, plans: Sequence[KernelPlan], sets: Sequence[TensorSet], memos: Sequence[Memo | None]
    ) -> list[list[Tensor]]:
        """`values` for many plans, each with its tensor and memo.

        Plans whose TensorSet is the same object share passes over it.
        """
        slots = self.run_stages(plans, sets, memos)
        return [_outputs_of(*found) for found in zip(plans, slots, strict=True)]

    def run_stages(
        self, plans: Sequence[KernelPlan], sets: Sequence[TensorSet], memos: Sequence[Memo | None]
    ) -> list[Slots]:
        """Return each plan's slots, filled: constants, then what sweeps and host steps give.

        All plans go from sweep to sweep together, so that those of one tensor share its passes.
        """
        check_fit(plans, sets)
        check_price(plans, sets)
        # Many tensors often share one plan, whose constants become tensors once.
        constants = {name: _constants(p) for name, p in {id(p): p for p in plans}.items()}
        slots = [list(constants[id(plan)]) for plan in plans]
        known = [{} if memo is None else memo for memo in memos]
        stages = [iter(plan.stages) for plan in plans]
        while True:
            waiting = list[WantedSweep]()
            check()
            for j, tensors in enumerate(sets):
                if sweep := _run_hosts(stages[j], tensors, slots[j], self.host_dtype):
                    waiting.append(WantedSweep(sweep, tensors, slots[j], known[j]))
            if not waiting:
                return slots
            self._fill(waiting)

    def _fill(self, waiting: Sequence[WantedSweep]) -> None:
        """Fill the slots of these sweeps: from memos, from moments, and the rest by passes.

        Sweeps of one tensor are joined, and tensors of which the same is wanted are swept by one call.
        """
        for one in waiting:
            one.recall()
            one.keep(from_moments(one, self.moments))
        for graph, groups in joined_by_graph(waiting).items():
            check()
            sets = [group[0].tensors for group, _ in groups]
            swept = self.sweep_all(graph, sets, [joined.slots for _, joined in groups])
            for (group, joined), values in zip(groups, swept, strict=True):
                found = dict(zip(joined.keys, values, strict=True))
                for one in group:
                    one.keep(found)
        for one in waiting:
            one.fill()

    @final
    def moments_of(self, tensors: TensorSet, memo: Memo) -> Tensor:
        """Return `moments` from the memo, or compute them and keep them there."""
        return known_moments(tensors, memo, self.moments)

    def moments(self, tensors: TensorSet) -> Tensor:
        """Return the tensor's moments (moments.py), float64 [K + 1, K + 1] on the CPU."""
        return moments_by_torch(tensors)


def _run_hosts(
    stages: Iterator[Stage], tensors: TensorSet, slots: Slots, dtype: torch.dtype
) -> Sweep | None:
    """Run host steps up to the next sweep, and return that, or None where no sweep is left."""
    for stage in stages:
        if isinstance(stage, Sweep):
            return stage
        if isinstance(stage, Host):
            values = evaluate(stage.graph, {}, tensors.shape2d, slots, dtype, check)
            for slot, value in zip(stage.slots, values, strict=True):
                slots[slot] = value
    return None


def _cut(slots: Slots, num_rows: int) -> Slots:
    """Return slots for the first rows: vectors over rows, [R, 1], are cut."""
    return [s[:num_rows] if s is not None and s.dim() and s.shape[1] == 1 else s for s in slots]


def _outputs_of(plan: KernelPlan, slots: Slots) -> list[Tensor]:
    return [value for o in plan.outputs if (value := slots[o]) is not None]


def _constants(plan: KernelPlan) -> Slots:
    lifted = torch.tensor(plan.params, dtype=torch.float64).unbind()
    return [*lifted, *[None] * (plan.num_slots - len(lifted))]


def _apply_of(plan: KernelPlan) -> KernelGraph:
    last = plan.stages[-1]
    assert isinstance(last, Apply), "a plan of values has nothing to merge"
    return last.graph
