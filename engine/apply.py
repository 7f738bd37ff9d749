"""One tensor's plan carried out, in whatever tier; NaN and Inf are found here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from safetensors import safe_open
from torch import Tensor

from ..kernels.backend import Backend, Job, Memo, TensorSet, structure
from .bank import Bank
from .errors import Rejected, Rejection
from .plan import TensorPlan, compiled, task_vectors
from .trace.replay import TORCH_ERRORS, first_line, replay

GROUP_ELEMENTS = 1 << 20  # merged by one call: more than a core's cache holds gains nothing


def update_of(
    plan: TensorPlan, tensors: TensorSet, backend: Backend, memo: Memo | None = None
) -> Tensor:
    """The float32 update, in the base's shape."""
    if plan.graph is not None:
        return backend.update(compiled(plan.graph), tensors, memo)
    if plan.trace is not None:
        try:
            (update,) = replay(plan.trace, task_vectors(tensors, plan.trace.shape))
        except TORCH_ERRORS as error:
            raise Rejected(Rejection("runtime", f"{tensors.name}: {first_line(error)}")) from error
        return update.float().reshape(tensors.base.shape).contiguous()
    assert plan.eager_file is not None
    with safe_open(plan.eager_file, "pt") as file:
        return file.get_tensor(tensors.name)


def merge_tensor(
    plan: TensorPlan, tensors: TensorSet, bank: Bank, backend: Backend, out: Tensor
) -> None:
    """out = base + update, rounded once. Raises Rejected (nonfinite), or UsageError where the
    checkpoint itself holds NaN or Inf."""
    merge_tensors([plan], [tensors], bank, backend, [out])


def merge_tensors(
    plans: Sequence[TensorPlan],
    sets: Sequence[TensorSet],
    bank: Bank,
    backend: Backend,
    outs: Sequence[Tensor],
) -> None:
    """`merge_tensor` of tensors that are one group of `together`."""
    jobs = [
        Job(compiled(plan.graph), tensors, out, bank.memo(tensors.name))
        for plan, tensors, out in zip(plans, sets, outs, strict=True)
        if plan.graph is not None
    ]
    if jobs:
        finite = backend.merge_all(jobs)
    else:
        ((plan,), (tensors,), (out,)) = plans, sets, outs
        out.copy_((tensors.base.float() + update_of(plan, tensors, backend)).to(out.dtype))
        finite = [bool(out.isfinite().all())]
    if not all(finite):
        name = sets[finite.index(False)].name
        bank.check_finite(name)
        raise Rejected(Rejection("nonfinite", f"the result holds NaN or Inf in {name}"))


def together(plans: Mapping[str, TensorPlan], bank: Bank) -> Iterator[list[str]]:
    """Names in order, grouped by what one call of a backend can merge; large tensors alone."""
    group, numel = list[str](), 0
    for name, plan in plans.items():
        size = math.prod(bank.base.shape(name))
        if group and (numel + size > GROUP_ELEMENTS or not alike(plans[group[-1]], plan)):
            yield group
            group, numel = [], 0
        group.append(name)
        numel += size
    if group:
        yield group


def alike(plan: TensorPlan, other: TensorPlan) -> bool:
    """Whether both are graphs of one structure."""
    if plan.graph is None or other.graph is None:
        return False
    if plan is other:
        return True
    return structure(compiled(plan.graph)) == structure(compiled(other.graph))
