"""Answers a program's value question about a tensor: by a kernel sweep where possible, else by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...kernels.execution.backend import Backend
from ...kernels.tensors import Memo, TensorSet
from ..trace.graph import TraceGraph
from ..trace.replay import replay
from .fuse import NotFused, values_plan


def answer_question(
    question: TraceGraph,
    tensors: TensorSet,
    backend: Backend,
    memo: Memo,
    note: Callable[[str], None] = lambda fault: None,
) -> list[Tensor]:
    """Return the values of a value question's outputs on real task vectors.

    A sweep computes them, and `memo` keeps its statistics. Torch replays what no kernel can answer;
    `note` is told the traceback where that is a bug of ours.
    """
    plan = values_plan(question)
    if isinstance(plan, NotFused):
        if plan.fault:
            note(plan.fault)
        results = replay(question, task_vectors(tensors, question.shape))
        return [r for one in results for r in (one if isinstance(one, (tuple, list)) else [one])]
    wanted = [question.nodes[output] for output in question.outputs]
    return [
        value.to(node.dtype or torch.float32).reshape(node.shape or ())
        for value, node in zip(backend.values(plan, tensors, memo), wanted, strict=True)
    ]


def task_vectors(tensors: TensorSet, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the float32 task vectors by expert, in the shape that a trace was made for."""
    base = tensors.base.float()
    return {
        name: (expert.float() - base).reshape(shape) for name, expert in tensors.experts.items()
    }
