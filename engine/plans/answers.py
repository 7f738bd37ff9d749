"""Answers a program's question about a tensor: by a kernel sweep where possible, else by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.compiler.passes import compile_values
from ...kernels.execution.backend import Backend
from ...kernels.ir import KernelGraph, Space
from ...kernels.stages import KernelPlan
from ...kernels.tensors import Memo, TensorSet
from ..lower import lower
from ..lower.value import NotFusable
from ..trace.graph import TraceGraph
from ..trace.replay import replay


def answer_question(
    question: TraceGraph, tensors: TensorSet, backend: Backend, memo: Memo
) -> list[Tensor]:
    """Return the values of a question's outputs on real task vectors.

    A sweep computes them, and `memo` keeps its statistics. Torch replays what no kernel can answer.
    """
    shapes = [question.nodes[output].shape for output in question.outputs]
    try:
        values = backend.values(values_plan(lower(question)), tensors, memo)
        dtypes = [question.nodes[output].dtype for output in question.outputs]
        return [
            value.to(dtype or torch.float32).reshape(shape or ())
            for value, dtype, shape in zip(values, dtypes, shapes, strict=True)
        ]
    except (NotFusable, LargeAnswer):
        pass
    results = replay(question, task_vectors(tensors, question.shape))
    return [r for one in results for r in (one if isinstance(one, (tuple, list)) else [one])]


class LargeAnswer(Exception):
    """The answer is not a number or a vector of the kernels' spaces."""


def values_plan(graph: KernelGraph) -> KernelPlan:
    """Return the plan that computes a graph's outputs. LargeAnswer where one is no number."""
    if any(graph.nodes[output].space is not Space.SCALAR for output in graph.outputs):
        raise LargeAnswer
    return compile_values(graph)


def task_vectors(tensors: TensorSet, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the float32 task vectors by expert, in the shape that a trace was made for."""
    base = tensors.base.float()
    return {
        name: (expert.float() - base).reshape(shape) for name, expert in tensors.experts.items()
    }
