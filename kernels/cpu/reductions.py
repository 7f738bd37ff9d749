"""Sweeps on the CPU: which outputs share a program, and each kind of reduction by the tile VM."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from ..compiler.cache import kept
from ..compiler.clock import check
from ..compiler.size import MOST_REDUCTIONS
from ..compiler.subgraphs import grouped, part
from ..ir import KernelGraph, Op, Space
from ..tensors import Slots, TensorSet
from .vm import TileVM

ALL, ROW, COL = Space.SCALAR, Space.ROW, Space.COL


def reduced(vm: TileVM, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
    """Return the graph's outputs, all reductions: [], [R, 1] or [1, C].

    Those over everything are float64, others float32.
    """
    found: dict[int, Tensor] = {}
    groups = sweeps_of(graph)
    for by_row in (False, True):
        together = [(o, w) for kind, rows, o, w in groups if (kind, rows) == (ALL, by_row)]
        values = totals(vm, [wanted for _, wanted in together], tensors, slots)
        found.update(zip(chain(*(outputs for outputs, _ in together)), values, strict=True))
    for kind, _, outputs, wanted in groups:
        check()
        if kind in RUNS:
            found.update(zip(outputs, RUNS[kind](vm, wanted, tensors, slots), strict=True))
    return [found[output] for output in graph.outputs]


Groups = list[tuple[str, bool, list[int], KernelGraph]]


def nodes_of_groups(graph: KernelGraph, groups: Groups) -> int:
    return len(graph.nodes) + sum(len(wanted.nodes) for *_, wanted in groups)


@kept(nodes_of_groups)
def sweeps_of(graph: KernelGraph) -> Groups:
    """Group the outputs by what can share a program.

    A group says how it is run (a key of RUNS, or ALL), whether by rows, which outputs it has, and
    what graph they are alone.
    """

    reads = reads_vectors(graph)

    def kind(output: int) -> tuple[str, bool, tuple[object, ...]]:
        node = graph.nodes[output]
        ranked = node.op is Op.KTH
        shared = "kth" if ranked else node.space
        return shared, any(reads[a] for a in node.args), (*node.args, node.space) if ranked else ()

    groups = grouped(graph, kind, MOST_REDUCTIONS)
    return [(how, rows, outputs, part(graph, outputs)) for (how, rows, _), outputs in groups]


def reads_vectors(graph: KernelGraph) -> list[bool]:
    """Return whether each value is a ROW or COL vector of a slot, or rests on one."""
    found = list[bool]()
    for node in graph.nodes:
        vector = node.op is Op.PARAM and node.space is not Space.SCALAR
        found.append(vector or any(found[a] for a in node.args))
    return found


def totals(vm: TileVM, graphs: list[KernelGraph], tensors: TensorSet, slots: Slots) -> list[Tensor]:
    """Return reductions over everything, one graph's outputs after the other's.

    The graphs' programs share one walk over the tensors.
    """
    if not graphs:
        return []
    calls = [vm.bind(graph, "reductions", tensors, slots) for graph in graphs]
    lanes = torch.tensor(vm.reduce_all(calls), dtype=torch.float64).unbind()
    found = list[Tensor]()
    for call in calls:
        found += [lanes[lane] for lane in call.code.lanes]
        lanes = lanes[len(call.code.kinds) :]
    return found


def over_rows(vm: TileVM, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
    """Return reductions of each row, [R, 1]."""
    call = vm.bind(graph, "reductions", tensors, slots, by_rows=True)
    out = torch.empty(len(call.code.kinds), tensors.shape2d[0])
    call.reduce_rows(out)
    return [out[lane][:, None].clone() for lane in call.code.lanes]


def over_columns(vm: TileVM, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
    """Return reductions of each column, [1, C]."""
    call = vm.bind(graph, "columns", tensors, slots, by_rows=True)
    out = torch.empty(len(call.code.kinds), tensors.shape2d[1])
    call.reduce_columns(out)
    return [out[lane][None, :].clone() for lane in call.code.lanes]


def kth_values(vm: TileVM, graph: KernelGraph, tensors: TensorSet, slots: Slots) -> list[Tensor]:
    """Return exact k-th values of one expression. Ranks that are close share a pass (order.cpp)."""
    space = graph.nodes[graph.outputs[0]].space
    wanted = [graph.nodes[output].attrs[0] for output in graph.outputs]
    ranks = sorted(set(wanted))
    call = vm.bind(graph, "gather", tensors, slots, by_rows=space is not ALL)
    if space is ALL:
        histogram = vm.bind(graph, "histogram", tensors, slots)
        out = torch.tensor(call.kth_all(histogram, ranks), dtype=torch.float32)
    else:
        rows, cols = tensors.shape2d
        out = torch.empty(len(ranks), *((rows, 1) if space is ROW else (1, cols)))
        (call.kth_rows if space is ROW else call.kth_columns)(ranks, out)
    return [out[ranks.index(rank)].clone() for rank in wanted]


RUNS = {"kth": kth_values, ROW: over_rows, COL: over_columns}
