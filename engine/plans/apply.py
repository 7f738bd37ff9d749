"""Plans carried out, in whatever tier; NaN and Inf are found here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetensors import safe_open
from torch import Tensor

from ...kernels.execution.backend import Backend
from ...kernels.stages import structure
from ...kernels.tensors import Job, Memo, TensorSet
from ..errors import Rejected, Rejection
from ..trace.replay import TORCH_ERRORS, first_line, replay
from ..weights.bank import Bank
from ..weights.checkpoint import Checkpoint
from .answers import task_vectors
from .plan import TensorPlan

GROUP_ELEMENTS = 1 << 20  # merged by one call: more than a core's cache holds gains nothing


def update_of(
    plan: TensorPlan, tensors: TensorSet, backend: Backend, memo: Memo | None = None
) -> Tensor:
    """The float32 update, in the base's shape."""
    if plan.graph is not None:
        return backend.update(plan.kernel, tensors, memo)
    if plan.trace is not None:
        try:
            (update,) = replay(plan.trace, task_vectors(tensors, plan.trace.shape))
        except TORCH_ERRORS as error:
            raise Rejected(Rejection("runtime", f"{tensors.name}: {first_line(error)}")) from error
        return update.float().reshape(tensors.base.shape).contiguous()
    assert plan.eager_file is not None
    with safe_open(plan.eager_file, "pt") as file:
        return file.get_tensor(tensors.name)


def merge_tensors(
    plans: Mapping[str, TensorPlan],
    sets: Sequence[TensorSet],
    bank: Bank,
    backend: Backend,
    outs: Sequence[Tensor],
) -> None:
    """out = base + update of each tensor, rounded once: fused plans of one structure in one call.

    Raises Rejected (nonfinite), or UsageError where the checkpoint itself holds NaN or Inf; other
    outs are written then, too.
    """
    jobs = list[Job]()
    for tensors, out in zip(sets, outs, strict=True):
        plan = plans[tensors.name]
        if plan.graph is not None:
            jobs.append(Job(plan.kernel, tensors, out, bank.memo(tensors.name)))
        else:
            here = on_host(tensors)
            out.copy_((here.base.float() + update_of(plan, here, backend)).to(out.dtype))
            check_result(tensors.name, bool(out.isfinite().all()), bank)
    if jobs:
        for job, finite in zip(jobs, backend.merge_all(jobs), strict=True):
            check_result(job.tensors.name, finite, bank)


def check_result(name: str, finite: bool, bank: Bank) -> None:
    if not finite:
        bank.check_finite(name)
        raise Rejected(Rejection("nonfinite", f"the result holds NaN or Inf in {name}"))


def on_host(tensors: TensorSet) -> TensorSet:
    """For what torch computes: a trace's numbers are on the host. Copied only from a device."""
    experts = {name: expert.cpu() for name, expert in tensors.experts.items()}
    return TensorSet(tensors.name, tensors.base.cpu(), experts)


def grouped(
    plans: Mapping[str, TensorPlan], names: Sequence[str], base: Checkpoint, most_bytes: int
) -> list[list[str]]:
    """Names that go into one call: fused plans of one structure, their results of so many bytes
    together. None are joined with 0."""
    if not most_bytes:
        return [[name] for name in names]
    groups: dict[object, list[list[str]]] = {}
    sizes: dict[object, int] = {}
    for name in names:
        plan, size = plans[name], base.entries[name].size_bytes
        key = name if plan.graph is None else structure(plan.kernel)
        sizes[key] = sizes.get(key, most_bytes) + size
        if sizes[key] > most_bytes:
            groups.setdefault(key, []).append([])
            sizes[key] = size
        groups[key][-1].append(name)
    return [group for found in groups.values() for group in found]
