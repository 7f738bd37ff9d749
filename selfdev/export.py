"""Writes a candidate of a run as a complete Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import Rejected, UsageError, did_you_mean
from ..engine.output.companions import Companions
from ..engine.output.folder import check_out
from ..engine.output.origin import CardScore, Origin
from ..engine.program import Program, extract
from ..engine.records.candidate import BASE, Candidate, Status
from ..engine.records.inputs import Input
from ..engine.records.store import Store
from ..engine.screening.folder import read_config
from ..engine.screening.identity import check_inputs_are, model_inputs
from ..engine.screening.place import DATABASE
from ..engine.weights.selection import Selection
from .experts import check_still_there, place_of
from .names import find_candidate

if TYPE_CHECKING:
    from ..engine.merge import MergeReport


@dataclass(frozen=True)
class Export:
    """What is merged again, and of which models. It was checked."""

    run: Path
    program: Program
    base: str
    experts: Mapping[str, str]
    include: str
    seed: int
    out: Path
    overwrite: bool
    origin: Origin
    # Models whose contents the run did not record, so that nothing says whether they are the same.
    unchecked: Sequence[str] = ()


def export(
    wanted: Export,
    *,
    unsafe_sandbox: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge the candidate's stored program again and write the result to its place."""
    # This loads torch.
    from ..engine.merge import merge_to_folder

    return merge_to_folder(
        wanted.program,
        base=wanted.base,
        experts=wanted.experts,
        include=wanted.include,
        seed=wanted.seed,
        out=wanted.out,
        overwrite=wanted.overwrite,
        unsafe_sandbox=unsafe_sandbox,
        progress=progress,
        also_read={"the run": wanted.run},
        origin=wanted.origin,
    )


def prepare_export(
    folder: Path,
    name: str,
    out: Path,
    overwrite: bool = False,
    *,
    base: str | None = None,
    experts: Mapping[str, str] | None = None,
) -> Export:
    """Check all that can be checked before anything is merged. Nothing here loads torch.

    `base` and `experts` say where the run's models are now, where they were moved. UsageError for an
    unknown candidate, models that are not the run's, or an `out` that cannot be written. Rejected where
    the candidate was.
    """
    found = found_in(folder, name, base, experts or {})
    check_out(out, found.selection, overwrite, {"the run": folder})
    Companions.of(found.selection.base.folder)
    config = found.config
    include, seed = config["include"], config["seed"]
    scored = found.candidate.fingerprint, found.candidate.weights_fingerprint
    origin = Origin(folder.resolve().name, found.candidate.id, found.scores, *scored)
    models = found.base, found.experts, include
    return Export(folder, found.program, *models, seed, out, overwrite, origin, found.unchecked)


@dataclass(frozen=True)
class InRun:
    """A candidate of a run with the run's models, whose contents are those that it was scored with."""

    config: Mapping[str, Any]
    candidate: Candidate
    program: Program
    base: str
    experts: Mapping[str, str]
    selection: Selection
    scores: Sequence[CardScore]
    unchecked: Sequence[str]


def found_in(folder: Path, name: str, base: str | None, moved: Mapping[str, str]) -> InRun:
    """Find a candidate and the run's models. Raises UsageError or Rejected, as prepare_export says."""
    config: Mapping[str, Any] = read_config(folder)
    with Store.read(folder / DATABASE) as store:
        name = find_candidate(store, config, name)
        found, inputs = store.candidate(name), store.inputs()
        program = program_of(folder, name, found)
        scores = scores_in(store, config, name)
    assert found is not None
    places = places_of(folder, config, inputs, moved)
    place = base or (inputs["base"].place if "base" in inputs else config["base"])
    if base is None:
        check_still_there(folder, place, "base", "--base DIR")
    for expert in places.keys() - moved.keys():
        check_still_there(folder, places[expert], f"expert {expert}", f"--expert {expert}=DIR")
    selection = Selection.open(place, places, config["include"])
    options = {f"expert {name}": f"--expert {name}=DIR" for name in places}
    options["base"] = "--base DIR"
    now = model_inputs(selection)
    check_inputs_are(inputs, now, folder, options=options)
    unchecked = [model.role for model in now if model.role not in inputs]
    return InRun(config, found, program, place, places, selection, scores, unchecked)


def scores_in(store: Store, config: Mapping[str, Any], name: str) -> list[CardScore]:
    """Return the candidate's scores for its model card, test first."""
    found = [(split, store.score(name, split)) for split in ("test", "dev")]
    return [
        CardScore(str(config["task"]), split, s.score, s.low, s.high, s.n)
        for split, s in found
        if s
    ]


def program_of(folder: Path, name: str, found: Candidate | None) -> Program:
    """Return the candidate's program. UsageError where it has none, Rejected where it was rejected."""
    if name == BASE:
        raise UsageError(
            f"{folder}: `{BASE}` is the base model as it is, so nothing is to be merged"
        )
    if found is None or found.source is None:
        raise UsageError(f"{folder}: has no candidate {name!r}")
    if found.status is Status.REJECTED and found.rejection:
        raise Rejected(found.rejection)
    return extract(found.source, found.params)


def places_of(
    folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Input], moved: Mapping[str, str]
) -> dict[str, str]:
    """Return where the experts are: as told, else where the run saw them last; in the run's order."""
    if unknown := [name for name in moved if name not in config["experts"]]:
        known = ", ".join(config["experts"])
        near = did_you_mean(unknown[0], config["experts"])
        raise UsageError(
            f"--expert {unknown[0]}: {folder} has no such expert; it has {known}{near}"
        )
    seen = {n: inputs[f"expert {n}"].place for n in config["experts"] if f"expert {n}" in inputs}
    told = {name: place_of(expert) for name, expert in config["experts"].items()}
    return {**told, **seen, **moved}
