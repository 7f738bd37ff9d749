"""Joins the sweeps of many plans into one graph of the statistics that are not known yet.

The statistics that programs ask of one tensor are mostly the same, or rest on the same expressions. So
their sweeps are joined node by node, and slots that hold the same number become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..compiler.staging import OWN
from ..compiler.subgraphs import needs
from ..ir import Builder, KernelGraph, Node, Op
from ..stages import Sweep
from ..tensors import Memo, Slots, TensorSet
from .moments import degree, forms_of, keys_of, summed, symmetric


@dataclass
class WantedSweep:
    """One plan's sweep of one tensor, whose slots are not filled yet."""

    sweep: Sweep
    tensors: TensorSet
    slots: Slots
    memo: Memo
    found: dict[str, Tensor] = field(default_factory=dict)

    def recall(self) -> None:
        """Take what the memo has, and hold it from here on: a memo may forget at any time."""
        self.found = {key: self.memo[key] for key in self.sweep.keys if key in self.memo}

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """The key and the output of each statistic that is not found yet."""
        pairs = zip(self.sweep.keys, self.sweep.graph.outputs, strict=True)
        return [(key, output) for key, output in pairs if key not in self.found]

    def keep(self, found: dict[str, Tensor]) -> None:
        """Take what is wanted of these statistics, and give it to the memo too.

        A memo refuses what is too large for it, so the smallest are given first.
        """
        fresh = [(key, found[key]) for key, _ in self.wanted if key in found] if found else []
        self.found.update(fresh)
        with suppress(ValueError):
            self.memo.update(sorted(fresh, key=lambda item: item[1].numel()))

    def fill(self) -> None:
        """Write the statistics to the plan's slots. All must have been found."""
        for slot, key in zip(self.sweep.slots, self.sweep.keys, strict=True):
            self.slots[slot] = self.found[key]


@dataclass(frozen=True)
class JoinedSweep:
    """One graph of several sweeps of a tensor."""

    graph: KernelGraph
    keys: tuple[str, ...]  # keys[i] names outputs[i]
    slots: Slots  # values of the graph's PARAM leaves


def join_sweeps(group: Sequence[WantedSweep]) -> JoinedSweep:
    """Return a graph of the statistics that a tensor's sweeps want, each once."""
    if len(group) == 1:
        (one,) = group
        keys, outputs = zip(*one.wanted, strict=True)
        return JoinedSweep(KernelGraph(one.sweep.graph.nodes, outputs), keys, one.slots)
    joiner = Joiner()
    for one in group:
        joiner.take(one)
    graph = joiner.builder.graph(*joiner.outputs.values())
    return JoinedSweep(graph, tuple(joiner.outputs), joiner.slots)


def joined_by_graph(
    waiting: Sequence[WantedSweep],
) -> dict[KernelGraph, list[tuple[list[WantedSweep], JoinedSweep]]]:
    """Join the sweeps of each tensor that want something, and group the tensors by what they want."""
    by_tensor: dict[int, list[WantedSweep]] = {}
    for one in waiting:
        if one.wanted:
            by_tensor.setdefault(id(one.tensors), []).append(one)
    by_graph: dict[KernelGraph, list[tuple[list[WantedSweep], JoinedSweep]]] = {}
    for group in by_tensor.values():
        joined = join_sweeps(group)
        by_graph.setdefault(joined.graph, []).append((group, joined))
    return by_graph


@dataclass
class Joiner:
    """Makes the graph of a JoinedSweep, one wanted sweep after the other."""

    builder: Builder = field(default_factory=Builder)
    outputs: dict[str, int] = field(default_factory=dict)
    slots: Slots = field(default_factory=list)
    numbers: dict[object, int] = field(default_factory=dict)

    def take(self, one: WantedSweep) -> None:
        fresh = [(key, output) for key, output in one.wanted if key not in self.outputs]
        nodes, new = one.sweep.graph.nodes, dict[int, int]()
        for index in needs(one.sweep.graph, tuple(output for _, output in fresh)):
            new[index] = self.node(nodes[index], new, one.slots)
        self.outputs.update((key, new[output]) for key, output in fresh)

    def node(self, node: Node, new: dict[int, int], slots: Slots) -> int:
        attrs = (self.slot(slots[node.attrs[0]]),) if node.op is Op.PARAM else None
        return self.builder.copy(node, (new[a] for a in node.args), attrs)

    def slot(self, value: Tensor | None) -> int:
        """Return the joined graph's slot of this number or vector."""
        assert value is not None, "a slot is read before it is filled"
        same = id(value) if value.dim() else float(value).hex()
        if same not in self.numbers:
            self.numbers[same] = len(self.slots)
            self.slots.append(value)
        return self.numbers[same]


def by_algebra(graph: KernelGraph, key: str, output: int) -> bool:
    """Return whether moments may give a statistic.

    They do so only where a program's own numbers enter it. Every other statistic is the same for
    all programs, which pay for it once, by a sweep.
    """
    return key.endswith(OWN) and degree(graph, output) is not None


def from_moments(one: WantedSweep, make: Callable[[TensorSet], Tensor]) -> dict[str, Tensor]:
    """Return the wanted statistics that the tensor's moments give, by key.

    `make` computes the moments where the memo has none.
    """
    graph, names = one.sweep.graph, list(one.tensors.experts)
    eligible = [(key, output) for key, output in one.wanted if by_algebra(graph, key, output)]
    if not eligible:
        return {}
    moments = known_moments(one.tensors, one.memo, make)
    forms = forms_of(graph, [output for _, output in eligible], names, one.slots)
    numbers, lengths = moments.numpy(), moments.diagonal().sqrt().numpy()
    # NaN and Inf need no warning: `summed` gives None for them, and they are swept.
    with np.errstate(all="ignore"):
        values = [summed(form, numbers, lengths) for form in forms]
    return {
        key: torch.tensor(value, dtype=torch.float64)
        for (key, _), value in zip(eligible, values, strict=True)
        if value is not None
    }


def known_moments(tensors: TensorSet, memo: Memo, make: Callable[[TensorSet], Tensor]) -> Tensor:
    """Return the tensor's moments, float64 [K + 1, K + 1], from the memo.

    Where it has none, `make` computes them and the memo gets them.
    """
    keys = keys_of(list(tensors.experts))
    if all(key in memo for key in keys):
        numel, *products = (float(memo[key]) for key in keys)
        return symmetric(products, int(numel), len(tensors.experts) + 1)
    moments = make(tensors)
    upper = moments[tuple(torch.triu_indices(*moments.shape))]
    with suppress(ValueError):
        memo.update(zip(keys, upper.unbind(), strict=True))
    return moments
