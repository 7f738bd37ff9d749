"""Runs plans of any tier on tensors; rejects results with NaN or Inf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetensors import safe_open
from torch import Tensor

from ...kernels.execution.backend import Backend
from ...kernels.stages import structure
from ...kernels.tensors import Job, Memo, TensorSet
from ..errors import Rejection
from ..weights.bank import Bank
from ..weights.checkpoint import Checkpoint
from .plan import Computed, Fused, TensorPlan


def update_of(
    plan: TensorPlan, tensors: TensorSet, backend: Backend, memo: Memo | None = None
) -> Tensor:
    """Return the float32 update of one tensor, in the base's shape: by kernels, or from its file."""
    match plan:
        case Fused():
            return backend.update(plan.kernel, tensors, memo)
        case Computed():
            with safe_open(plan.file, "pt") as file:
                return file.get_tensor(tensors.name)
    raise AssertionError(f"a {plan.tier} plan is not computed yet (updates.py)")


def merge_tensors(
    plans: Mapping[str, TensorPlan],
    sets: Sequence[TensorSet],
    bank: Bank,
    backend: Backend,
    outs: Sequence[Tensor],
) -> Rejection | None:
    """Write out = base + update for each tensor, rounded once to the base's dtype.

    Fused plans run in one call, so they must have one structure (see `grouped`). Returns why a result cannot
    be used (`nonfinite`), else None; other outs may be written then, too. UsageError where the checkpoint
    itself holds NaN or Inf.
    """
    jobs = list[Job]()
    for tensors, out in zip(sets, outs, strict=True):
        plan = plans[tensors.name]
        if isinstance(plan, Fused):
            jobs.append(Job(plan.kernel, tensors, out, bank.memo(tensors.name)))
        elif why := merge_on_host(plan, tensors, bank, backend, out):
            return why
    flags = backend.merge_all(jobs) if jobs else []
    rejected = (
        nonfinite(job.tensors.name, bank, "result")
        for job, finite in zip(jobs, flags, strict=True)
        if not finite
    )
    return next(rejected, None)


def merge_on_host(
    plan: TensorPlan, tensors: TensorSet, bank: Bank, backend: Backend, out: Tensor
) -> Rejection | None:
    """Write out = base + update for one tensor on the host; return a rejection or None."""
    here = on_host(tensors)
    update = update_of(plan, here, backend)
    out.copy_((here.base.float() + update).to(out.dtype))
    return None if out.isfinite().all() else nonfinite(tensors.name, bank, "result")


def nonfinite(name: str, bank: Bank, what: str) -> Rejection:
    """Return the rejection for NaN or Inf in an update or result: the program's fault.

    UsageError instead where a checkpoint itself holds NaN or Inf in this tensor.
    """
    bank.check_finite(name)
    return Rejection("nonfinite", f"the {what} holds NaN or Inf in {name}")


def on_host(tensors: TensorSet) -> TensorSet:
    """Return the tensors on the host, since computed updates are there.

    Only tensors on a device are copied.
    """
    experts = {name: expert.cpu() for name, expert in tensors.experts.items()}
    return TensorSet(tensors.name, tensors.base.cpu(), experts)


def grouped(
    plans: Mapping[str, TensorPlan], names: Sequence[str], base: Checkpoint, most_bytes: int
) -> list[list[str]]:
    """Group names that go into one call of `merge_tensors`.

    A group has fused plans of one structure, whose results have at most `most_bytes` together. Any
    other plan is alone. With `most_bytes` 0 every plan is alone.
    """
    if not most_bytes:
        return [[name] for name in names]
    groups: dict[object, list[list[str]]] = {}
    sizes: dict[object, int] = {}
    for name in names:
        plan, size = plans[name], base.entries[name].size_bytes
        key = structure(plan.kernel) if isinstance(plan, Fused) else name
        sizes[key] = sizes.get(key, most_bytes) + size
        if sizes[key] > most_bytes:
            groups.setdefault(key, []).append([])
            sizes[key] = size
        groups[key][-1].append(name)
    return [group for found in groups.values() for group in found]
