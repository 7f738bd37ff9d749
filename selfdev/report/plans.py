"""Prints the plans that were scored, from the bytes in run.db. No program runs, no weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.records.candidate import Candidate
from ...engine.records.store import Store
from ...kernels.compiler.printing import describe, name_of, text_of
from ...kernels.compiler.size import TooLarge
from ...kernels.compiler.staging import stage_merge
from ...kernels.ir import LEAVES, KernelGraph
from ...kernels.verify import GraphError, verify
from .reads import escaped

# A text is cut here. A screening of thousands of plans shows the stages of its best ones only.
MOST_CHARACTERS = 6000
MOST_STAGED = 50
SHOWN_NAMES = 3
# What plain data of another form raises where its parts are taken out.
MISSHAPEN = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError),
    *(RecursionError, GraphError, TooLarge),
)


class PlanTexts:
    """The texts of all scored plans, each once. `texts` has them, `of` a position for each candidate."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.texts: list[str] = []

    def of(self, scored: Sequence[tuple[Candidate, float | None]]) -> list[int | None]:
        """Where the plan of each (candidate, dev score) is in `texts`; None for one without a plan."""
        best = sorted((-dev, i) for i, (_, dev) in enumerate(scored) if dev is not None)
        staged = {i for _, i in best[:MOST_STAGED]}
        # The best come first, so that a plan that many share has its stages.
        known: dict[str, int | None] = {}
        order = sorted(range(len(scored)), key=lambda i: i not in staged)
        found = [(i, self.position(scored[i][0], known, i in staged)) for i in order]
        return [at for _, at in sorted(found, key=lambda item: item[0])]

    def position(self, candidate: Candidate, known: dict[str, int | None], staged: bool):
        name = candidate.fingerprint
        if not name or not candidate.has_score:
            return None
        if name not in known:
            data = self.store.plan(name)
            known[name] = None if data is None else self.add(plan_text(data, staged))
        return known[name]

    def add(self, text: str) -> int:
        self.texts.append(escaped(text[:MOST_CHARACTERS]))
        return len(self.texts) - 1


def plan_text(data: bytes, staged: bool) -> str:
    """The plan as text: a graph for each group of tensors, and with `staged` what runs for it.

    A plan that is damaged, or of another form, says so instead.
    """
    try:
        plan = json.loads(data)
        names: dict[int, list[str]] = {}
        for name, index in plan["tensors"].items():
            names.setdefault(index, []).append(str(name))
        parts = [
            f"# {tensors_text(names.get(i, []))}\n{part_text(one, staged)}"
            for i, one in enumerate(plan["plans"])
        ]
    except MISSHAPEN as error:
        return f"# this plan cannot be shown: {type(error).__name__}"
    return "\n\n".join(parts) or "# nothing is changed: the result is the base"


def tensors_text(names: Sequence[str]) -> str:
    """The tensors of one plan: their number, and the first of them."""
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    noun = "tensor" if len(names) == 1 else "tensors"
    return f"{len(names)} {noun}: {', '.join(names[:SHOWN_NAMES])}{more}"


def part_text(part: Mapping[str, Any], staged: bool) -> str:
    """The graph of one tensor's plan; for one that torch computed, the tier and its reason."""
    if "graph" not in part:
        return f"# {part['tier']}, computed once by torch: {part['reason']}"
    graph = KernelGraph.from_json(part["graph"])
    if not staged:
        return graph_text(graph)
    verify(graph)
    return f"{graph_text(graph)}\n\n{describe(stage_merge(graph, bounded=True))}"


def graph_text(graph: KernelGraph) -> str:
    """The graph as an assignment a node; the comment is the space of the value."""
    lines = [
        f"{name_of(graph, i)} = {text_of(graph, i)}"
        for i, node in enumerate(graph.nodes)
        if node.op not in LEAVES
    ]
    return "\n".join([*lines, f"merged = base + {name_of(graph, graph.outputs[0])}"])
