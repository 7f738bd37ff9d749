"""What runs a plan: the interface, the walk over stages that all backends share, the reference.

    merge     out = base + update, rounded once to the base's dtype
    update    the float32 update alone
    values    the small numbers that a question asked for

A backend says how to run one Sweep and one Apply, of one tensor or of many that share a structure (a
GPU wants them in one launch); slots, memo and host steps are the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from ..ir import KernelGraph
from ..reference import evaluate
from ..stages import Apply, Host, KernelPlan, Stage, Sweep, structure
from ..tensors import Job, Memo, Slots, TensorSet
from .joint import JoinedSweep, WantedSweep, from_moments, join_sweeps, known_moments

PIECE_ELEMENTS = 1 << 22


class Backend(ABC):
    """Runs plans. Subclasses are final."""

    name: str

    @abstractmethod
    def sweep(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        """The reductions that are the graph's outputs, float32: [], [R, 1] or [1, C]."""

    @abstractmethod
    def apply(self, graph: KernelGraph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        """Write base + update into `out`; whether all results are finite."""

    @abstractmethod
    def expression(self, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> Tensor:
        """The update alone, float32, in the base's shape."""

    def sweep_all(
        self, graph: KernelGraph, sets: Sequence[TensorSet], slots: Sequence[Slots]
    ) -> list[list[Tensor]]:
        """`sweep` of many tensors; one after the other where a backend knows nothing better."""
        return [self.sweep(graph, *one) for one in zip(sets, slots, strict=True)]

    def apply_all(
        self,
        graph: KernelGraph,
        sets: Sequence[TensorSet],
        slots: Sequence[Slots],
        outs: Sequence[Tensor],
    ) -> list[bool]:
        """`apply` of many tensors."""
        return [self.apply(graph, *one) for one in zip(sets, slots, outs, strict=True)]

    @final
    def merge(
        self, plan: KernelPlan, tensors: TensorSet, out: Tensor, memo: Memo | None = None
    ) -> bool:
        """out = base + update (out: the base's dtype and shape); False if a result is NaN or Inf."""
        (finite,) = self.merge_all([Job(plan, tensors, out, memo)])
        return finite

    @final
    def merge_all(self, jobs: Sequence[Job]) -> list[bool]:
        """`merge` of many tensors whose plans have one structure (`structure`), stage by stage."""
        for job in jobs:
            base = job.tensors.base
            assert job.out.shape == base.shape and job.out.dtype == base.dtype
            assert structure(job.plan) == structure(jobs[0].plan), "plans of several structures"
        sets, outs = [job.tensors for job in jobs], [job.out for job in jobs]
        slots = self.run_stages([job.plan for job in jobs], sets, [job.memo for job in jobs])
        return self.apply_all(_apply_of(jobs[0].plan), sets, slots, outs)

    @final
    def update(self, plan: KernelPlan, tensors: TensorSet, memo: Memo | None = None) -> Tensor:
        """The float32 update (M - M0 before any cast), in the base's shape."""
        (slots,) = self.run_stages([plan], [tensors], [memo])
        return self.expression(_apply_of(plan), tensors, slots)

    @final
    def starts(
        self, plans: Sequence[KernelPlan], tensors: TensorSet, memo: Memo | None, num_rows: int
    ) -> list[Tensor]:
        """The first rows of each plan's update, [num_rows, C] float32; only sweeps read the rest."""
        slots = self.run_stages(plans, [tensors] * len(plans), [memo] * len(plans))
        first = tensors.first(num_rows)
        pairs = zip(plans, slots, strict=True)
        return [self.expression(_apply_of(p), first, _cut(own, num_rows)) for p, own in pairs]

    @final
    def values(
        self, plan: KernelPlan, tensors: TensorSet, memo: Memo | None = None
    ) -> list[Tensor]:
        """The plan's outputs, float32: [], [R, 1] or [1, C]."""
        return self.values_all([plan], [tensors], [memo])[0]

    @final
    def values_all(
        self, plans: Sequence[KernelPlan], sets: Sequence[TensorSet], memos: Sequence[Memo | None]
    ) -> list[list[Tensor]]:
        """`values` of many plans. Those of one tensor share its passes, tensors their launches."""
        slots = self.run_stages(plans, sets, memos)
        found = zip(plans, slots, strict=True)
        return [[v for o in plan.outputs if (v := own[o]) is not None] for plan, own in found]

    def run_stages(
        self, plans: Sequence[KernelPlan], sets: Sequence[TensorSet], memos: Sequence[Memo | None]
    ) -> list[Slots]:
        """Fill each plan's slots: lifted constants, then sweeps and host steps in order.

        All plans go from sweep to sweep together, so that those of one tensor share its passes.
        """
        distinct = {id(plan): plan for plan in plans}  # many tensors, one plan: torch once
        constants = {name: _constants(plan) for name, plan in distinct.items()}
        slots = [list(constants[id(plan)]) for plan in plans]
        known = [{} if memo is None else memo for memo in memos]
        stages = [iter(plan.stages) for plan in plans]
        while True:
            waiting = list[WantedSweep]()
            for j, tensors in enumerate(sets):
                if sweep := _run_hosts(stages[j], tensors, slots[j]):
                    waiting.append(WantedSweep(sweep, tensors, slots[j], known[j]))
            if not waiting:
                return slots
            self._fill(waiting)

    def _fill(self, waiting: Sequence[WantedSweep]) -> None:
        """What memo and moments do not give is swept: together what is of one tensor, in one call
        the tensors of which the same is wanted."""
        for one in waiting:
            one.recall()
            one.keep(from_moments(one, self.moments))
        by_tensor: dict[int, list[WantedSweep]] = {}
        for one in waiting:
            if one.wanted:
                by_tensor.setdefault(id(one.tensors), []).append(one)
        by_graph: dict[KernelGraph, list[tuple[list[WantedSweep], JoinedSweep]]] = {}
        for group in by_tensor.values():
            joined = join_sweeps(group)
            by_graph.setdefault(joined.graph, []).append((group, joined))
        for graph, groups in by_graph.items():
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
        """`moments`, from the memo or kept there."""
        return known_moments(tensors, memo, self.moments)

    def moments(self, tensors: TensorSet) -> Tensor:
        """[K + 1, K + 1] float64: sums of products of 1 and the K task vectors. On their device, in
        pieces."""
        count = len(tensors.experts) + 1
        total = torch.zeros(count, count, dtype=torch.float64, device=tensors.base.device)
        base = tensors.base.reshape(-1)
        for start in range(0, base.numel(), PIECE_ELEMENTS):
            piece = slice(start, start + PIECE_ELEMENTS)
            below = base[piece].float()
            vectors = [e.reshape(-1)[piece].float() - below for e in tensors.experts.values()]
            rows = torch.stack([torch.ones_like(below), *vectors]).double()
            total += rows @ rows.T
        return total.cpu()


def _run_hosts(stages: Iterator[Stage], tensors: TensorSet, slots: Slots) -> Sweep | None:
    """Go on to the next sweep, if there is one."""
    for stage in stages:
        if isinstance(stage, Sweep):
            return stage
        if isinstance(stage, Host):
            values = evaluate(stage.graph, {}, tensors.shape2d, slots, torch.float32)
            for slot, value in zip(stage.slots, values, strict=True):
                slots[slot] = value
    return None


def _cut(slots: Slots, num_rows: int) -> Slots:
    """Slots for the first rows: a vector over rows is [R, 1]."""
    return [s[:num_rows] if s is not None and s.dim() and s.shape[1] == 1 else s for s in slots]


def _constants(plan: KernelPlan) -> Slots:
    lifted = torch.tensor(plan.params, dtype=torch.float32).unbind()
    return [*lifted, *[None] * (plan.num_slots - len(lifted))]


def _apply_of(plan: KernelPlan) -> KernelGraph:
    last = plan.stages[-1]
    assert isinstance(last, Apply), "a plan of values has nothing to merge"
    return last.graph
