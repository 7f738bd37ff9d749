"""Writes the model card of a merged checkpoint: what it was made of, enough to make it again."""

from __future__ import annotations

import json

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
    experts = [f"| {name} | `{c.known_as}` |" for name, c in selection.experts.items()]
    params = ", ".join(f"{key}={value!r}" for key, value in program.params.items())
    fence = "`" * 4
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
            f"| base | `{selection.base.known_as}` |",
            *experts,
            "",
            f"Tensors: `{selection.include}`. Parameters: {params or 'none'}. Tier: {plan.tier}.",
            f"Program {plan.fingerprint}, weights {weights_fingerprint}.",
            "",
            f"{fence}python",
            program.code.rstrip(),
            fence,
            "",
        ]
    )
