"""Writes the model card of a merged checkpoint: what it was made of, enough to make it again.

Every name and text in it is hostile: nothing of it becomes markup, metadata, or a path of this machine.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath

from huggingface_hub.repocard_data import EvalResult, ModelCardData

from ..errors import in_one_line, visible
from ..plans.plan import Plan
from ..program import Program
from ..weights.selection import Selection
from .licence import OTHER, shared_licence
from .origin import Origin
from .owned import PROGRAM

TAGS = ["merge", "selfdev-engine"]
# Characters of a name in the hub's metadata.
MOST_NAME = 96


def model_card(
    program: Program,
    selection: Selection,
    plan: Plan,
    weights_fingerprint: str,
    *,
    seed: int = 0,
    origin: Origin | None = None,
    digests: Mapping[str, str] | None = None,
) -> str:
    """Return the text of the folder's README.md, with the hub's metadata at its head.

    Models are named by hub id or by folder, never by a path of this machine. `digests` are the SHA-256 of
    weight files by name.
    """
    experts = [f"| {span(n)} | {span(c.known_as)} |" for n, c in selection.experts.items()]
    params = ", ".join(span(f"{key}={value!r}") for key, value in program.params.items())
    sums = "\n".join(f"{value}  {in_one_line(name)}" for name, value in (digests or {}).items())
    lines = [
        *("---", metadata(selection, origin), "---", ""),
        *("# A merged model", ""),
        "Made by selfdev-engine: a merge program applied to the task vectors (expert minus base)",
        f"of {len(plan.tensors)} tensors; every other tensor is the base's.",
        *origin_lines(origin),
        *("", "| model | made from |", "| --- | --- |"),
        f"| base | {span(selection.base.known_as)} |",
        *experts,
        "",
        f"Tensors: {span(selection.include)}. Parameters: {params or 'none'}. Seed: {seed}. "
        f"Tier: {plan.tier}.",
        f"Program {plan.fingerprint}, weights {weights_fingerprint}. {versions()}.",
        *("", f"The program, also in {span(PROGRAM)}:", "", *fenced(program.code, "python")),
        *("", "To make it again:", "", *fenced(command_of(program, selection, seed), "sh")),
        *(("", "SHA-256 of the weights:", "", *fenced(sums, "text")) if sums else ()),
    ]
    return "\n".join([*lines, ""])


def origin_lines(origin: Origin | None) -> list[str]:
    """Return what the card says of the run: the candidate, and its scores as a table."""
    if origin is None:
        return []
    lines = ["", f"It is the candidate {span(origin.candidate)} of the run {span(origin.run)}."]
    if origin.scores:
        head = "| task | split | score | 95 % interval | questions |"
        lines += ["", head, "| --- | --- | --- | --- | --- |"]
    for s in origin.scores:
        cells = (span(task_name(s.task)), s.split, f"{s.score:.4f}", f"{s.low:.4f} to {s.high:.4f}")
        lines.append(f"| {' | '.join(cells)} | {s.n} |")
    if any(s.split == "dev" for s in origin.scores):
        lines += ["", "A dev score is flattered: the search picked the candidate by it."]
    return lines


def metadata(selection: Selection, origin: Origin | None) -> str:
    """Return the head of the card as YAML. Only hub ids are base models; a licence is shared by all."""
    models = list(dict.fromkeys(m.hub_id for m in selection.models if m.hub_id))
    licence = shared_licence([model.folder for model in selection.models])
    data = ModelCardData(
        library_name="transformers",
        tags=list(TAGS),
        base_model=models or None,
        base_model_relation="merge",
        license=licence or OTHER,
        license_name=None if licence else "check",
        model_name=plain(origin.candidate) if origin else None,
        eval_results=results_of(origin),
    )
    return data.to_yaml().strip()


def results_of(origin: Origin | None) -> list[EvalResult] | None:
    """Return the scores as the hub's evaluation results; None without any."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=plain(task_name(s.task)),
            dataset_name=plain(task_name(s.task)),
            dataset_split=s.split,
            metric_type="accuracy",
            metric_name=f"accuracy of {s.n} questions, 95 % interval {s.low:.4f} to {s.high:.4f}",
            metric_value=round(s.score, 6),
        )
        for s in (origin.scores if origin else ())
    ] or None


def task_name(task: str) -> str:
    """Return how others may know a task: its name, or that of its file without the folder."""
    kind, colon, place = task.partition(":")
    return PurePath(place).stem if colon else kind


def plain(text: str) -> str:
    """Return a text as a short name in metadata: printable, in one line, never empty."""
    return in_one_line(text)[:MOST_NAME].strip() or "unnamed"


def versions() -> str:
    """Return the versions that the result depends on."""
    found = (f"{name} {importlib.metadata.version(name)}" for name in ("selfdev-engine", "torch"))
    return ", ".join(found)


def command_of(program: Program, selection: Selection, seed: int) -> str:
    """Return the command that makes the model again, with models as others may know them."""
    words = ["selfdev-engine", "merge", PROGRAM, "--base", selection.base.known_as]
    for name, model in selection.experts.items():
        words += ["--expert", f"{name}={model.known_as}"]
    for name, value in program.params.items():
        words += ["--param", f"{name}={value}"]
    words += ["--include", selection.include, "--seed", str(seed), "--out", "merged"]
    return in_one_line(shlex.join(words))


def fenced(text: str, language: str) -> list[str]:
    """Return a text as a block of code whose fence it cannot end."""
    code = visible(text.replace("\r\n", "\n")).rstrip()
    fence = "`" * max(4, longest_run(code) + 1)
    return [f"{fence}{language}", code, fence]


def span(text: str) -> str:
    """Any text as code within a line: Markdown and HTML in it mean nothing, also in a table."""
    inside = in_one_line(text).replace("|", r"\x7c")
    ticks = "`" * (longest_run(inside) + 1)
    return f"{ticks} {inside} {ticks}" if "`" in inside else f"`{inside or ' '}`"


def longest_run(text: str) -> int:
    """The number of backticks in the longest run of them."""
    return max(map(len, re.findall("`+", text)), default=0)
