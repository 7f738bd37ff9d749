"""Answers a program's value question about a tensor: by a kernel sweep where possible, else by torch.

Torch runs it in a locked child (cells.py): no operation of a program's graph runs on data here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from ...kernels.compiler.staging import OWN
from ...kernels.execution.backend import Backend
from ...kernels.tensors import Memo, TensorSet
from ..trace.graph import TraceGraph, TraceNode
from .fuse import NotFused, values_plan


def answer_question(
    question: TraceGraph,
    tensors: TensorSet,
    backend: Backend,
    memo: Memo,
    by_torch: Callable[[TraceGraph], list[Tensor]],
    note: Callable[[str], None] = lambda fault: None,
) -> list[Tensor]:
    """Return the values of a value question's outputs on real task vectors.

    A sweep computes them, and `memo` keeps its statistics and the answer. `by_torch` answers what no
    kernel can; `note` is told the traceback where that is a bug of ours.
    """
    plan = values_plan(question)
    if isinstance(plan, NotFused):
        if plan.fault:
            note(plan.fault)
        return by_torch(question)
    kernel, counts = plan
    numbers = iter(backend.values(kernel, tensors, memo))
    wanted = [question.nodes[output] for output in question.outputs]
    values = [
        tensor_of([next(numbers) for _ in range(count)], node)
        for count, node in zip(counts, wanted, strict=True)
    ]
    # A memo may refuse what is too large for it.
    with suppress(ValueError):
        memo.update(zip(answer_keys(question), values, strict=True))
    return values


def kept_answer(question: TraceGraph, memo: Memo) -> list[Tensor] | None:
    """Return what `answer_question` kept of the same question, or None: its tensor need not be read.

    Only what kernels answered is kept. A cell speaks for its own candidate, and for no other one.
    """
    found = list[Tensor]()
    for key in answer_keys(question):
        if (value := memo.get(key)) is None:
            return None
        found.append(value)
    return found


def answer_keys(question: TraceGraph) -> list[str]:
    """Return the memo's keys of a question's outputs. OWN keeps them out of a run's store."""
    name = question.question_fingerprint
    return [f"answer {name} {place}{OWN}" for place in range(len(question.outputs))]


def tensor_of(numbers: list[Tensor], node: TraceNode) -> Tensor:
    """Return a node's value of its numbers in order."""
    dtype, shape = node.dtype or torch.float32, node.shape or ()
    if len(numbers) == 1:
        return numbers[0].to(dtype).reshape(shape)
    return torch.tensor([float(n) for n in numbers], dtype=dtype).reshape(shape)
