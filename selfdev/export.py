"""Writes a candidate of a run as a complete Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import Rejected, UsageError
from ..engine.program import Program, extract
from ..engine.records.candidate import BASE, Candidate, Status
from ..engine.records.inputs import Input
from ..engine.records.store import Store
from ..engine.screening.folder import read_config
from ..engine.screening.identity import check_inputs_are, model_inputs
from ..engine.weights.selection import Selection

if TYPE_CHECKING:
    from ..engine.merge import MergeReport


@dataclass(frozen=True)
class Export:
    """What is merged again, and of which models."""

    program: Program
    base: str
    experts: Mapping[str, str]
    include: str
    seed: int


def export(
    folder: Path,
    candidate: str,
    out: Path,
    overwrite: bool = False,
    *,
    base: str | None = None,
    experts: Mapping[str, str] | None = None,
    unsafe_sandbox: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge the candidate's stored program again and write the result to `out`.

    `base` and `experts` say where the run's models are now, where they were moved. UsageError for an
    unknown candidate, or models that are not the run's. Rejected where the candidate was.
    """
    wanted = prepare_export(folder, candidate, base, experts or {})
    from ..engine.merge import merge_to_folder  # torch: only once the candidate is known

    return merge_to_folder(
        wanted.program,
        base=wanted.base,
        experts=wanted.experts,
        include=wanted.include,
        seed=wanted.seed,
        out=out,
        overwrite=overwrite,
        unsafe_sandbox=unsafe_sandbox,
        progress=progress,
        also_read={"the run": folder},
    )


def prepare_export(folder: Path, name: str, base: str | None, experts: Mapping[str, str]) -> Export:
    """Check all that can be checked before anything is merged. Nothing here loads torch."""
    config: Mapping[str, Any] = read_config(folder)
    with Store.read(folder / "run.db") as store:
        name = store.named(name)
        found, inputs = store.candidate(name), store.inputs()
    program = program_of(folder, name, found)
    places = places_of(folder, config, inputs, experts)
    place = base or (inputs["base"].place if "base" in inputs else config["base"])
    selection = Selection.open(place, places, config["include"])
    check_inputs_are(inputs, model_inputs(selection), folder)
    return Export(program, place, places, config["include"], config["seed"])


def program_of(folder: Path, name: str, found: Candidate | None) -> Program:
    """Return the candidate's program. UsageError where it has none, Rejected where it was rejected."""
    if found is None or found.source is None or name == BASE:
        raise UsageError(f"{folder}: has no candidate {name!r} with a program")
    if found.status is Status.REJECTED and found.rejection:
        raise Rejected(found.rejection)
    return extract(found.source, found.params)


def places_of(
    folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Input], moved: Mapping[str, str]
) -> dict[str, str]:
    """Return where the experts are: as told, else where the run saw them last; in the run's order."""
    if unknown := [name for name in moved if name not in config["experts"]]:
        known = ", ".join(config["experts"])
        raise UsageError(f"--expert {unknown[0]}: {folder} has no such expert; it has {known}")
    seen = {n: inputs[f"expert {n}"].place for n in config["experts"] if f"expert {n}" in inputs}
    return {**config["experts"], **seen, **moved}
