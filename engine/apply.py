"""One tensor's plan carried out, in whatever tier; NaN and Inf are found here."""

from __future__ import annotations

from safetensors import safe_open
from torch import Tensor

from ..kernels.backend import Backend, Memo, TensorSet
from .bank import Bank
from .errors import Rejected, Rejection
from .plan import TensorPlan, compiled, task_vectors
from .trace.replay import TORCH_ERRORS, first_line, replay


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
    memo = bank.memo(tensors.name)
    if plan.graph is not None:
        finite = backend.merge(compiled(plan.graph), tensors, out, memo)
    else:
        out.copy_((tensors.base.float() + update_of(plan, tensors, backend)).to(out.dtype))
        finite = bool(out.isfinite().all())
    if not finite:
        bank.check_finite(tensors.name)
        raise Rejected(Rejection("nonfinite", f"the result holds NaN or Inf in {tensors.name}"))
