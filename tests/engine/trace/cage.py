"""Replays fuzzed graphs as the product does: in a locked child, whose replies are read as hostile.

A child serves many graphs, until it fails or has served `GRAPHS_A_CELL`. Its end is an outcome, because the
driver goes on; a reply of an honest child that is not believed is a finding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack

import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.plans.cells import LEAST_BYTES, Cells, TensorCell, parts_in_memory
from selfdev_engine.engine.plans.plan import Hybrid
from selfdev_engine.engine.trace.bounds import MAX_ANSWER_ELEMENTS
from selfdev_engine.engine.trace.graph import TraceGraph
from selfdev_engine.engine.trace.settings import TraceSettings, open_sandbox
from selfdev_engine.kernels.tensors import TensorSet

GRAPHS_A_CELL, LIMIT_S = 500, 100.0


class Cage:
    """A sandbox, and one child of it at a time; `inputs` are the task vectors by shape."""

    def __init__(self, inputs: Mapping[tuple[int, ...], Mapping[str, torch.Tensor]]) -> None:
        self._files, self._cell, self._served = ExitStack(), ExitStack(), 0
        descriptor = os.memfd_create("inputs")
        self._files.callback(os.close, descriptor)
        parts = {
            str(shape): parts_in_memory(TensorSet("t", torch.zeros(shape), vectors), descriptor)
            for shape, vectors in inputs.items()
        }
        sandbox = self._files.enter_context(open_sandbox(TraceSettings()))
        self._cells = Cells(sandbox, parts, LEAST_BYTES, LIMIT_S, LIMIT_S)
        self._open: TensorCell | None = None

    def close(self) -> None:
        self._end_cell()
        self._files.close()

    def _end_cell(self) -> None:
        self._cell.close()
        self._cell, self._open, self._served = ExitStack(), None, 0

    def cell(self) -> TensorCell:
        if self._open is None or self._served >= GRAPHS_A_CELL:
            self._end_cell()
            opened = self._cells.open(list(self._cells.parts), LIMIT_S)
            self._open = self._cell.enter_context(opened)
        self._served += 1
        return self._open

    def answer(self, graph: TraceGraph) -> list[torch.Tensor]:
        """The outputs' values. Raises Rejected, and RuntimeError for what torch refuses."""
        try:
            return self.cell().answer(str(graph.shape), graph)
        except Rejected:
            self._end_cell()
            raise

    def update(self, graph: TraceGraph) -> None:
        """Computes an update into shared memory. Raises as `answer` does."""
        why = self.cell().update(str(graph.shape), Hybrid(graph, ""))
        if why is not None and why.kind == "runtime" and "process ended" not in why.detail:
            raise RuntimeError(why.detail)
        if why is not None:
            self._end_cell()
            raise Rejected(why)


def can_be_asked(graph: TraceGraph) -> bool:
    """Tells whether every output is small enough for an answer to a program."""
    shapes = (graph.nodes[output].shape for output in graph.outputs)
    return all(s is not None and math.prod(s) <= MAX_ANSWER_ELEMENTS for s in shapes)
