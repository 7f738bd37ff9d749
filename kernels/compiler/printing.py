"""Prints a plan as commented Python."""

from __future__ import annotations

from ..ir import LEAVES, KernelGraph, Op
from ..stages import KernelPlan


def describe(plan: KernelPlan) -> str:
    """Return the plan as commented Python text, one assignment a node."""
    lines = [f"# {len(plan.params)} constants, {plan.num_slots} slots"]
    lines += [f"s{i} = {value!r}" for i, value in enumerate(plan.params)]
    for stage in plan.stages:
        lines += ["", f"# {type(stage).__name__.lower()}: {HEADINGS[type(stage).__name__]}"]
        lines += [f"{name_of(stage.graph, i)} = {text_of(stage.graph, i)}"
                  for i, node in enumerate(stage.graph.nodes) if node.op not in LEAVES]  # fmt: skip
        slots = getattr(stage, "slots", ())
        lines += [
            f"s{slot} = {name_of(stage.graph, output)}"
            for slot, output in zip(slots, stage.graph.outputs, strict=bool(slots))
        ]
        if not slots:
            lines.append(f"merged = base + {name_of(stage.graph, stage.graph.outputs[0])}")
    if plan.outputs:
        lines.append(f"answers = {', '.join(f's{output}' for output in plan.outputs)}")
    return "\n".join(lines)


HEADINGS = {
    "Sweep": "one pass over the task vectors, reductions only",
    "Host": "small values",
    "Apply": "one pass, reads base and experts once, writes once",
}


def name_of(graph: KernelGraph, index: int) -> str:
    node = graph.nodes[index]
    if node.op is Op.INPUT:
        return f"task_vector[{node.attrs[0]!r}]"
    if node.op is Op.PARAM:
        return f"s{node.attrs[0]}"
    if node.op is Op.CONST:
        return repr(node.attrs[0])
    if node.op in LEAVES:
        return f"{node.op.value}{node.attrs}"
    return f"v{index}"


def text_of(graph: KernelGraph, index: int) -> str:
    node = graph.nodes[index]
    words = [name_of(graph, a) for a in node.args] + [repr(a) for a in node.attrs]
    return f"{node.op.value}({', '.join(words)})  # {node.space.value}"
