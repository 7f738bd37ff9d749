"""One screening, as the command `screen` and `sd.screen` do it: checked first, then carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UsageError, keeping
from ..engine.given import at_home, checked, given_places, in_python, wrong
from ..engine.records.database import is_begun
from ..engine.records.store import Store
from ..engine.sandbox.layers import check_layers
from ..engine.screening.folder import check_place, check_texts, comparable, completed
from ..engine.screening.identity import check_existing_screening
from ..engine.screening.inputs import (
    check_inputs,
    default_workers,
    is_on_hub,
    models_are_here,
    places_read,
)
from ..engine.screening.place import DATABASE, check_inputs_apart
from ..engine.screening.read_programs import check_programs, read_programs
from ..engine.screening.settings import ScreenSettings
from .experts import check_experts
from .parameters import Value, check_params
from .sizes import bytes_of
from .watching import Watcher, given_watcher, watched

if TYPE_CHECKING:
    from .open_run import Run

# Files, folders and .jsonl files; or texts by id.
Programs = str | Path | Sequence[str | Path] | Mapping[str, str]
Texts = list[tuple[str, str]]


@dataclass(frozen=True)
class ScreenRequest:
    """A screening whose input was checked. `texts` are (id, text)."""

    texts: Texts
    settings: ScreenSettings
    folder: Path
    also_read: Mapping[str, Path]


def given_programs(name: str, value: object) -> object:
    """Return programs by id, or their places."""
    if isinstance(value, Mapping):
        return dict(check_programs(list(value.items())))
    try:
        return given_places(name, value)
    except UsageError:
        raise wrong(name, "files and folders, or a dict of ids and texts", value) from None


@in_python()
@checked(programs=given_programs, progress=given_watcher)
def screen(
    programs: Programs,
    *,
    base: str | Path,
    experts: Mapping[str, str | Path],
    task: str,
    run: str | Path,
    include: str = "mlp",
    backend: str = "auto",
    params: Mapping[str, Value] | None = None,
    shots: str = "auto",
    race: str = "full",
    top: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    engine: str = "auto",
    seed: int = 0,
    data: str | Path | None = None,
    memory: str | int | None = None,
    gpu_memory: str | int | None = None,
    log_samples: bool = False,
    accept_engine: bool = False,
    unsafe_sandbox: bool = False,
    progress: Watcher | bool = False,
) -> Run:
    """Score programs in a live engine, keep all in the folder `run`, and return what it holds.

    `programs` are files, folders and .jsonl files, or a mapping of ids to texts. A folder that holds this
    run already goes on. `progress` is True for a bar on stderr. UsageError for bad input.
    """
    settings = ScreenSettings(
        base=str(base),
        experts={name: str(place) for name, place in experts.items()},
        task=task,
        include=include,
        backend=backend,
        params=dict(params or {}),
        race=race,
        top=top,
        workers=workers or default_workers(address),
        address=address,
        engine=engine,
        seed=seed,
        data=str(data) if data else None,
        shots=shots,
        memory_bytes=bytes_of(memory),
        gpu_memory_bytes=bytes_of(gpu_memory, "--gpu-memory"),
        log_samples=log_samples,
        unsafe_sandbox=unsafe_sandbox,
        accept_engine=accept_engine,
    )
    from .open_run import open_run

    request = prepare_screen(programs, settings, Path(run))
    with watched(progress) as bar:
        screen_prepared(request, bar)
    return open_run(request.folder)


def prepare_screen(
    programs: Programs,
    settings: ScreenSettings,
    folder: Path,
    plan: bool = False,
    elsewhere: bool = False,
) -> ScreenRequest:
    """Check all that can be checked before torch is loaded. UsageError for what is wrong.

    For a `plan` nothing is downloaded, and what only a download would show is not checked. With
    `elsewhere` the plan is for another machine.
    """
    check_race(settings.race, settings.top)
    check_experts(settings.experts)
    if isinstance(programs, Mapping):
        texts, also_read = check_programs(list(programs.items())), {}
    else:
        places = given_places("programs", programs)
        if not places:
            raise UsageError("no programs are given")
        texts, also_read = read_programs(places), programs_read(places)
    check_params([text for _, text in texts], settings.params)
    check_inputs(settings, offline=plan, elsewhere=elsewhere)
    if not plan or models_are_here(settings):
        check_inputs_apart(folder, {**places_read(settings), **also_read})
        check_place(folder, comparable(settings), "resume", completed)
        if not plan or not is_on_hub(settings):
            check_existing_screening(settings, folder)
    if is_begun(folder / DATABASE):
        with Store.read(folder / DATABASE) as store:
            check_texts(store, texts, folder)
    check_layers(settings.unsafe_sandbox)
    return ScreenRequest(texts, settings, folder, also_read)


def screen_prepared(request: ScreenRequest, bar: Watcher) -> dict[str, Any]:
    """Carry a screening out and write its report; return the object that `screen --json` prints."""
    # This loads torch.
    from ..engine.screen import screen_programs
    from .report import write_report

    how = request.settings, request.folder, bar, request.also_read
    result = screen_programs(request.texts, *how)
    with keeping(lambda: result):
        return {**result, "report": str(write_report(request.folder))}


def programs_read(places: Sequence[str]) -> dict[str, Path]:
    """Return the programs' places as inputs of the screening, by what they are."""
    return {f"the program {place}": at_home(place) for place in places}


def check_race(race: str, top: int | None) -> None:
    """UsageError where a race has no K, or K has no race."""
    if race not in (races := ("full", "sure", "likely")):
        raise UsageError(f"--race {race}: write one of {', '.join(races)}")
    if race != "full" and top is None:
        raise UsageError(f"--race {race}: say for how many with --top K")
    if race == "full" and top is not None:
        raise UsageError(f"--top {top}: is for a race only; give --race sure or --race likely, too")
