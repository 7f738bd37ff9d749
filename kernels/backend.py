"""What runs a plan: the interface, the walk over stages that all backends share, the reference.

    merge     out = base + update, rounded once to the base's dtype
    update    the float32 update alone
    values    the small numbers that a question asked for

A backend says how to run one Sweep and one Apply; slots, memo and host steps are the same for all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .ir import Graph, Op, Space
from .reference import evaluate
from .stages import Apply, Host, Plan, Sweep

Slots = list[Tensor | None]
Memo = MutableMapping[str, Tensor]
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
NAMES = ("auto", "cpu", "triton", "reference")


class BackendError(RuntimeError):
    """A backend that does not exist, or not on this machine; one line with the fix."""


@dataclass(frozen=True)
class TensorSet:
    """One checkpoint tensor of the base and of every expert: equal shapes, contiguous, 1-D or 2-D."""

    name: str
    base: Tensor
    experts: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for tensor in (self.base, *self.experts.values()):
            assert tensor.shape == self.base.shape, f"{tensor.shape} beside {self.base.shape}"
            assert tensor.is_contiguous(), f"{self.name} is not contiguous"
            assert tensor.dtype in DTYPES, f"{self.name} is {tensor.dtype}"

    @property
    def shape2d(self) -> tuple[int, int]:
        """(R, C); a 1-D tensor is one row."""
        *rows, cols = self.base.shape or (1,)
        return math.prod(rows), cols

    def vector(self, name: str, dtype: torch.dtype) -> Tensor:
        """The task vector [R, C]: subtracted in float32, as the contract says."""
        delta = self.experts[name].float() - self.base.float()
        return delta.reshape(self.shape2d).to(dtype)


class Backend(ABC):
    """Runs plans. Subclasses are final."""

    name: str

    @abstractmethod
    def sweep(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        """The reductions that are the graph's outputs, float32: [], [R, 1] or [1, C]."""

    @abstractmethod
    def apply(self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        """Write base + update into `out`; whether all results are finite."""

    @abstractmethod
    def expression(self, graph: Graph, tensors: TensorSet, slots: Slots) -> Tensor:
        """The update alone, float32, in the base's shape."""

    @final
    def merge(self, plan: Plan, tensors: TensorSet, out: Tensor, memo: Memo | None = None) -> bool:
        """out = base + update (out: the base's dtype and shape); False if a result is NaN or Inf."""
        assert out.shape == tensors.base.shape and out.dtype == tensors.base.dtype
        return self.apply(_apply_of(plan), tensors, self.run_stages(plan, tensors, memo), out)

    @final
    def update(self, plan: Plan, tensors: TensorSet, memo: Memo | None = None) -> Tensor:
        """The float32 update (M - M0 before any cast), in the base's shape."""
        return self.expression(_apply_of(plan), tensors, self.run_stages(plan, tensors, memo))

    @final
    def values(self, plan: Plan, tensors: TensorSet, memo: Memo | None = None) -> list[Tensor]:
        """The plan's outputs, float32: [], [R, 1] or [1, C]."""
        slots = self.run_stages(plan, tensors, memo)
        found = [slots[output] for output in plan.outputs]
        return [value for value in found if value is not None]

    def run_stages(self, plan: Plan, tensors: TensorSet, memo: Memo | None) -> Slots:
        """Fill the slots: lifted constants, then sweeps and host steps in order."""
        slots: Slots = [torch.tensor(value, dtype=torch.float32) for value in plan.params]
        slots += [None] * (plan.num_slots - len(slots))
        for stage in plan.stages:
            if isinstance(stage, Sweep):
                self._fill(stage, tensors, slots, {} if memo is None else memo)
            elif isinstance(stage, Host):
                values = evaluate(stage.graph, {}, tensors.shape2d, slots, torch.float32)
                for slot, value in zip(stage.slots, values, strict=True):
                    slots[slot] = value
        return slots

    def _fill(self, stage: Sweep, tensors: TensorSet, slots: Slots, memo: Memo) -> None:
        """What the memo lacks is swept; it may forget at any time, and refuse what is too large."""
        known = {key: memo[key] for key in stage.keys if key in memo}
        missing = [i for i, key in enumerate(stage.keys) if key not in known]
        if missing:
            wanted = Graph(stage.graph.nodes, tuple(stage.graph.outputs[i] for i in missing))
            for i, value in zip(missing, self.sweep(wanted, tensors, slots), strict=True):
                known[stage.keys[i]] = value
                with suppress(ValueError):
                    memo[stage.keys[i]] = value
        for slot, key in zip(stage.slots, stage.keys, strict=True):
            slots[slot] = known[key]


def _apply_of(plan: Plan) -> Graph:
    last = plan.stages[-1]
    assert isinstance(last, Apply), "a plan of values has nothing to merge"
    return last.graph


@final
class ReferenceBackend(Backend):
    """float64 on whole tensors: slow, memory hungry, and right by definition."""

    name = "reference"

    def sweep(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        return [value.float() for value in self._evaluate(graph, tensors, slots)]

    def expression(self, graph: Graph, tensors: TensorSet, slots: Slots) -> Tensor:
        (update,) = self._evaluate(graph, tensors, slots)
        return update.expand(tensors.shape2d).float().reshape(tensors.base.shape).contiguous()

    def apply(self, graph: Graph, tensors: TensorSet, slots: Slots, out: Tensor) -> bool:
        (update,) = self._evaluate(graph, tensors, slots)
        merged = tensors.base.double() + update.expand(tensors.shape2d).reshape(out.shape)
        out.copy_(merged.to(out.dtype))
        return bool(out.isfinite().all())

    def _evaluate(self, graph: Graph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
        inputs = {name: tensors.vector(name, torch.float64) for name in tensors.experts}
        return evaluate(graph, inputs, tensors.shape2d, slots, torch.float64)


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name; "auto" picks by device. BackendError names what is missing."""
    if name not in NAMES:
        raise BackendError(f"no backend {name}: choose one of {', '.join(NAMES)}")
    if name == "reference":
        return ReferenceBackend()
    if name == "triton" or (name == "auto" and torch.cuda.is_available()):
        from .triton.launch import TritonBackend

        return TritonBackend()
    from .cpu_backend import CpuBackend

    return CpuBackend()


def num_passes(plan: Plan) -> int:
    """How often the weights are read."""
    return sum(not isinstance(stage, Host) for stage in plan.stages)


def plan_bytes(plan: Plan, shape: tuple[int, int], itemsizes: Mapping[str, int]) -> tuple[int, int]:
    """Bytes (read, written) for one tensor [R, C]; `itemsizes` by expert name and "base".

    A pass reads the base and the experts it uses once; small vectors are not counted.
    """
    numel, read, written = shape[0] * shape[1], 0, 0
    for stage in plan.stages:
        if isinstance(stage, Host):
            continue
        used = {node.attrs[0] for node in stage.graph.nodes if node.op is Op.INPUT}
        reads_base = bool(used) or isinstance(stage, Apply)
        read += numel * (sum(itemsizes[name] for name in used) + itemsizes["base"] * reads_base)
        written += numel * itemsizes["base"] * isinstance(stage, Apply)
    return read, written


def is_small(space: Space) -> bool:
    """Whether a value of this space is a number or a vector."""
    return space is not Space.FULL
