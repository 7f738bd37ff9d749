"""Answers to a program's questions as known numbers, for its later questions and its plan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .graph import TraceNode, references

# Dtypes that a kernel's constants hold exactly.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Answered:
    """The answers of one trace. A loop that asks in each round would compute all earlier ones again.

    Statistics of the task vectors themselves stay expressions: plans share them.
    """

    def __init__(self) -> None:
        self._constants: dict[int, TraceNode] = {}
        # Nodes that were answered, or rest on such a node.
        self._after: set[int] = set()

    def tell(
        self, nodes: Sequence[TraceNode], outputs: Sequence[int], values: Sequence[Tensor]
    ) -> None:
        """Remembers the values of some outputs."""
        for index in range(min(self._after, default=len(nodes)), len(nodes)):
            if not self._after.isdisjoint(references(nodes[index])):
                self._after.add(index)
        for index, value in zip(outputs, values, strict=True):
            if value.dtype in DTYPES and index in self._after and bool(value.isfinite().all()):
                numbers, shape = tuple(value.flatten().tolist()), tuple(value.shape)
                self._constants[index] = TraceNode(
                    "const", (numbers, shape), {}, shape, value.dtype
                )
        self._after.update(outputs)

    @property
    def has_constants(self) -> bool:
        """Tells whether a node is known as a number."""
        return bool(self._constants)

    def known(self, nodes: Sequence[TraceNode]) -> tuple[TraceNode, ...]:
        """The nodes, with constants in place of those that are known."""
        return tuple(self._constants.get(i, node) for i, node in enumerate(nodes))
