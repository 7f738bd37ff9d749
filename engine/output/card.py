"""Writes the model card of a merged checkpoint: what it was made of, enough to make it again."""

from __future__ import annotations

import json
import re

from ..errors import in_one_line, visible
from ..plans.plan import Plan
from ..program import Program
from ..weights.selection import Selection


def model_card(program: Program, selection: Selection, plan: Plan, weights_fingerprint: str) -> str:
    """Return the text of the folder's README.md, with the hub's metadata at its head.

    Models are named by hub id or by folder, never by a path of this machine.
    """
    models = [model.known_as for model in selection.models]
    head = ["---", "library_name: transformers", "tags:", "- merge", "- selfdev-engine"]
    head += ["base_model:", *(f"- {json.dumps(name)}" for name in models), "---"]
    experts = [f"| {span(n)} | {span(c.known_as)} |" for n, c in selection.experts.items()]
    params = ", ".join(span(f"{key}={value!r}") for key, value in program.params.items())
    code = visible(program.code.replace("\r\n", "\n")).rstrip()
    fence = "`" * max(4, longest_run(code) + 1)
    return "\n".join(
        [
            *head,
            "",
            "# A merged model",
            "",
            "Made by selfdev-engine: a merge program applied to the task vectors (expert minus base)",
            f"of {len(plan.tensors)} tensors; every other tensor is the base's.",
            "",
            "| model | made from |",
            "| --- | --- |",
            f"| base | {span(selection.base.known_as)} |",
            *experts,
            "",
            f"Tensors: {span(selection.include)}. Parameters: {params or 'none'}. Tier: {plan.tier}.",
            f"Program {plan.fingerprint}, weights {weights_fingerprint}.",
            "",
            f"{fence}python",
            code,
            fence,
            "",
        ]
    )


def span(text: str) -> str:
    """Any text as code within a line: Markdown and HTML in it mean nothing, also in a table."""
    inside = in_one_line(text).replace("|", r"\x7c")
    ticks = "`" * (longest_run(inside) + 1)
    return f"{ticks} {inside} {ticks}" if "`" in inside else f"`{inside or ' '}`"


def longest_run(text: str) -> int:
    """The number of backticks in the longest run of them."""
    return max(map(len, re.findall("`+", text)), default=0)
