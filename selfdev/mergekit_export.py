"""Writes a candidate of a run as a mergekit configuration, where a weighted sum says all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..engine.errors import UsageError, in_one_line
from ..engine.output.file import check_file, write_file
from ..engine.weights.checkpoint import Checkpoint
from .export import InRun, found_in

# The most of an update, relative to its norm, that a configuration may leave out.
MOST_RESIDUAL = 1e-3
# A share of the weights that is so many times the linear residual, or float32's rounding, is noise.
FAR_BELOW, ROUNDING = 0.01, 2.0**-24
HEAD = "# Written by selfdev-engine for mergekit-yaml (mergekit 0.1.5)."
# Parts of names that select all MLPs in most models, the shortest filter first.
PARTS = ("mlp.", "feed_forward.")


def export_mergekit(
    folder: Path,
    name: str,
    out: Path,
    *,
    base: str | None = None,
    experts: Mapping[str, str] | None = None,
    unsafe_sandbox: bool = False,
) -> dict[str, Any]:
    """Write the configuration to the file `out`; return what it says, as `export --mergekit --json` prints it.

    UsageError where the candidate's linear residual is not below MOST_RESIDUAL, where its program makes
    another update than run.db says, and as for an export.
    """
    check_file("--out", out, is_ours)
    found = found_in(folder, name, base, experts or {})
    linear = linear_of(folder, found)
    linear = {**linear, "coefficients": without_noise(**linear)}
    check_program(folder, found, linear["coefficients"], unsafe_sandbox)
    data = configuration_of(found, linear["coefficients"])
    words = f"candidate {found.candidate.id} of the run {folder.resolve().name}"
    about = f"# {in_one_line(words)}; linear residual {linear['residual']:.3g}."
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
    write_file("--out", out, f"{HEAD}\n{about}\n{text}", is_ours)
    return {"out": str(out), "candidate": found.candidate.id, **linear}


def is_ours(start: str) -> bool:
    return start.startswith(HEAD)


def linear_of(folder: Path, found: InRun) -> dict[str, Any]:
    """Return the candidate's linear equivalent. UsageError where it has none, or leaves too much out."""
    name, linear = found.candidate.id, found.candidate.linear
    if linear is None:
        raise UsageError(
            f"{folder}: {name!r} was not scored, so its linear equivalent is not known"
        )
    if not linear["residual"] < MOST_RESIDUAL:
        raise UsageError(
            f"{folder}: {name!r} is no weighted sum of task vectors: its linear residual is "
            f"{linear['residual']:.3g}, and --mergekit needs less than {MOST_RESIDUAL:g}; leave "
            "--mergekit out to export its weights"
        )
    return linear


def check_program(
    folder: Path, found: InRun, coefficients: Mapping[str, float], unsafe_sandbox: bool
) -> None:
    """Raise UsageError where the program makes another update than the weighted sum in run.db."""
    # This loads torch, and reads all models.
    from .linear_check import left_out

    config, models = found.config, (found.base, found.experts)
    how = config["include"], config["seed"], coefficients, unsafe_sandbox
    if not (share := left_out(found.program, *models, *how)) < MOST_RESIDUAL:
        raise UsageError(
            f"{folder}: the linear equivalent of {found.candidate.id!r} in run.db is not what its program "
            f"merges: it leaves out {share:.3g} of that, and --mergekit needs less than {MOST_RESIDUAL:g}; "
            "run.db was edited or is damaged: leave --mergekit out to export the program's own weights"
        )


def without_noise(coefficients: Mapping[str, float], residual: float) -> dict[str, float]:
    """Return the coefficients with 0 for those whose share is far below what is left out anyway.

    A program that ignores an expert has -5e-17 of it: the rounding of the sums that it was found by.
    """
    least = FAR_BELOW * max(residual, ROUNDING) * sum(map(abs, coefficients.values()))
    return {name: c if abs(c) > least else 0.0 for name, c in coefficients.items()}


def configuration_of(found: InRun, coefficients: Mapping[str, float]) -> dict[str, Any]:
    """Return the configuration of a weighted sum: task_arithmetic, computed in float32."""
    base, selection = found.selection.base, found.selection
    tied = [head for head, embedding in selection.ties.items() if embedding in selection.names]
    filters = filters_of(base.names, {*selection.names, *tied})
    models = [
        {"model": place_of(model), "parameters": {"weight": weight_of(coefficients[name], filters)}}
        for name, model in selection.experts.items()
    ]
    return {
        "merge_method": "task_arithmetic",
        "base_model": place_of(base),
        "models": models,
        "parameters": {"normalize": False},
        "dtype": "float32",
        "out_dtype": dtype_of(base),
    }


def place_of(model: Checkpoint) -> str:
    """Return where mergekit finds a model: its hub id, or its folder."""
    return model.hub_id or str(model.folder.resolve())


def dtype_of(base: Checkpoint) -> str:
    """Return the one dtype of the base. UsageError where it has several: mergekit writes one."""
    dtypes = sorted({entry.dtype for entry in base.entries.values()})
    if len(dtypes) > 1:
        raise UsageError(
            f"{base.folder}: has tensors of {', '.join(dtypes)}, and mergekit writes one dtype; "
            "leave --mergekit out to export the weights"
        )
    return dtypes[0]


def weight_of(coefficient: float, filters: Sequence[str]) -> float | list[dict[str, Any]]:
    """Return a weight that is 0 for all tensors but those of the filters."""
    if not filters:
        return coefficient
    chosen: list[dict[str, Any]] = [{"filter": f, "value": coefficient} for f in filters]
    return [*chosen, {"value": 0.0}]


def filters_of(names: Sequence[str], chosen: set[str]) -> list[str]:
    """Return filters that select just these tensors, as mergekit does: by a part of the name.

    None are needed for all. UsageError where no filters can tell the tensors apart.
    """
    if chosen == set(names):
        return []
    for filters in ([PARTS[0]], [PARTS[1]], sorted(chosen)):
        if {name for name in names if any(part in name for part in filters)} == chosen:
            return filters
    raise UsageError(
        "--mergekit: the merged tensors cannot be told from others by parts of their names, as "
        "mergekit's filters do; leave --mergekit out to export the weights"
    )
