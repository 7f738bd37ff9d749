"""Checks what a transfer is given before anything is started. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError
from ..engine.output.claim import check_free
from ..engine.output.folder import real
from ..engine.output.owned import TRANSFER as DIGEST
from ..engine.output.owned import TRANSFERS
from ..engine.records.inputs import WEIGHTS, Input
from ..engine.records.store import Store
from ..engine.sandbox.layers import check_layers
from ..engine.screening.folder import (
    TRANSFER,
    check_place,
    comparable,
    completed,
    read_config,
)
from ..engine.screening.identity import (
    BASE_ROLE,
    TASK,
    check_existing_screening,
    check_inputs_are,
    inputs_of,
    model_inputs,
    weights_of,
)
from ..engine.screening.inputs import (
    check_inputs,
    default_workers,
    open_selection,
    open_task,
    places_read,
)
from ..engine.screening.place import DATABASE, LOCK, check_inputs_apart
from ..engine.screening.settings import ScreenSettings
from ..engine.weights.locate import locate
from ..engine.weights.selection import Selection
from .baselines import TUNED, known_candidates
from .config import RunConfig
from .config import completed as completed_run
from .experts import check_still_there
from .inputs import screen_settings
from .results import dev_score, ranked_programs
from .sizes import parse_bytes


@dataclass(frozen=True)
class Found:
    """A program of the run that is tried, with its dev score there."""

    id: str
    source: str
    params: Mapping[str, Any]
    dev: float


@dataclass(frozen=True)
class TransferRequest:
    """A transfer whose input was checked. `folder` is its own, inside that of the run."""

    run: Path
    folder: Path
    programs: tuple[Found, ...]
    screening: ScreenSettings

    @property
    def wanted(self) -> dict[str, object]:
        """The settings of its folder: those of a screening, and what tells it from one."""
        return {**comparable(self.screening), TRANSFER: True}


def prepare_transfer(
    run: Path,
    experts: Mapping[str, str],
    top: int,
    *,
    base: str | None = None,
    **given: Any,
) -> TransferRequest:
    """Check all that can be known before an engine is up. UsageError for what is wrong.

    `base` says where the run's base is now, if it was moved. `given` are settings of this machine, or None
    for what the run's config says: `data`, `memory_bytes`, `gpu_memory_bytes`, `workers`, `address`,
    `unsafe_sandbox`, `accept_engine`.
    """
    config: Mapping[str, Any] = read_config(run)
    with Store.read(run / DATABASE) as store:
        programs, inputs = found_programs(store, top), store.inputs()
    check_number(run, config["experts"], experts)
    place = base or (inputs["base"].place if "base" in inputs else config["base"])
    if base is None:
        check_still_there(run, place, "base", "--base DIR")
    here = {key: value for key, value in given.items() if value is not None}
    settings = replace(settings_of(config), base=place, experts=dict(experts), **here)
    check_inputs(settings)
    selection, task = open_selection(settings), open_task(settings)
    belongs = [one for one in inputs_of(settings, selection, task) if one.role in (BASE_ROLE, TASK)]
    check_inputs_are(inputs, belongs, run, options={BASE_ROLE: "--base DIR"})
    check_others(run, config, inputs, selection)
    if not task.has_test:
        raise UsageError(
            f"--task {task.name}: has no test questions, and a transfer is scored on them"
        )
    if not programs:
        raise UsageError(
            f"{run}: no program of it has a dev score yet, so there is none to transfer"
        )
    check_names(run, programs, experts)
    folder = run / TRANSFERS / name_of(settings)
    request = TransferRequest(run, folder, tuple(programs), settings)
    check_inputs_apart(folder, places_read(settings))
    check_free(real(run) / LOCK, f"{run}")
    check_place(folder, request.wanted, "resume", completed)
    check_existing_screening(settings, folder)
    check_layers(settings.unsafe_sandbox)
    return request


def found_programs(store: Store, top: int) -> list[Found]:
    """The best `top` programs by dev: distinct updates of a loop's samples, else of a screening."""
    names = ranked_programs(store)
    if not store.iterations() and not names:
        scored = [
            c.id for c in store.candidates() if c.source and c.is_valid and not c.duplicate_of
        ]
        names = sorted(scored, key=lambda name: -dev_score(store, name))
    found = [store.candidate(name) for name in names[:top]]
    return [Found(c.id, c.source or "", c.params, dev_score(store, c.id)) for c in found if c]


def settings_of(config: Mapping[str, Any]) -> ScreenSettings:
    """The settings of the run's scores. A race's are left out: every program is asked all questions."""
    if "iterations" in config:
        run = RunConfig(**completed_run(config))
        sizes = run.engine.memory, run.engine.gpu_memory
        return screen_settings(run, (parse_bytes(sizes[0]), parse_bytes(sizes[1])), None, False)
    known: dict[str, Any] = {k: v for k, v in completed(config).items() if k != TRANSFER}
    alike = {"race": "full", "top": None, "params": {}, "workers": default_workers()}
    return ScreenSettings(**{**known, **alike})


def check_number(run: Path, known: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """UsageError where there are more experts than the programs merge, or fewer."""
    if len(given) != len(known):
        raise UsageError(
            f"{run}: its programs merge {len(known)} experts ({', '.join(known)}); "
            f"{len(given)} are given: give --expert {len(known)} times"
        )


def check_others(
    run: Path, config: Mapping[str, Any], inputs: Mapping[str, Input], selection: Selection
) -> None:
    """UsageError where the experts are the run's own, under whatever names and in whatever order."""
    known = [one for role, one in inputs.items() if role.startswith("expert ")]
    now = [one for one in model_inputs(selection) if one.role.startswith("expert ")]
    if all(any(is_same(one, before) for before in known) for one in now):
        raise UsageError(
            f"{run}: these are its own experts ({', '.join(config['experts'])}), on which its programs "
            "were found; give others of the same base"
        )


def is_same(now: Input, before: Input) -> bool:
    """Tell whether two models are one: by their place, or by their weights where those were read."""
    if Path(now.place).resolve() == Path(before.place).resolve():
        return True
    sizes, others = ([(f.size_bytes, f.header) for f in one.files] for one in (now, before))
    if sizes != others or not before.is_read:
        return False
    return weights_of(now.place, now.files) == before.parts[WEIGHTS]


def check_names(run: Path, programs: list[Found], experts: Mapping[str, str]) -> None:
    """UsageError where a program of a screening is called as a known model is here."""
    taken = {str(row["id"]) for row in known_candidates(list(experts), [TUNED])}
    if clash := next((p.id for p in programs if p.id in taken), None):
        raise UsageError(
            f"{run}: its program {clash!r} is called as a model that it is compared with; name the "
            "expert otherwise, or screen the program under another name"
        )


def name_of(settings: ScreenSettings) -> str:
    """The name of a transfer's folder: one for each list of experts, by name and place."""
    said = json.dumps([(name, str(locate(p).absolute())) for name, p in settings.experts.items()])
    return hashlib.sha256(said.encode()).hexdigest()[: DIGEST.count("[")]
