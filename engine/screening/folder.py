"""Keeps the settings and programs of a run in its folder (place.py guards the folder itself).

A run folder belongs to one set of settings, which its config.yaml holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal

import yaml

from ..errors import UsageError
from ..output.claim import check_free
from ..output.folder import check_writable, real
from ..output.owned import CONFIG
from ..records.candidate import BASE, Candidate, clean
from ..records.database import is_begun
from ..records.forms import shown
from ..records.store import Store
from ..tasks.load import path_of
from ..weights.locate import locate
from ..weights.small_file import read_text
from ..weights.strict_yaml import PlainLoader, in_yaml, load_yaml
from .place import (
    DATABASE,
    LOCK,
    check_ours,
    check_replaceable,
    claimed,
    forget_old,
    naming_run,
    set_aside,
)
from .settings import ScreenSettings

PLACES = ("base", "generator", "task", "data")  # may change where contents stay the same
FREE = (
    "memory_bytes",
    "gpu_memory_bytes",
    "log_samples",
    "unsafe_sandbox",
    "accept_engine",
    "workers",
    "address",
    "name",
    "note",
)  # may change between resumes
FREE_IN_RUN = (
    "cluster.workers",
    "cluster.address",
    "engine.gpu_memory",
)  # the same, of a loop's settings
TRANSFER = "transfer"  # key of the settings that tells a transfer from a screening
NAME, NOTE = "name", "note"  # keys of the store: what the user calls the run, and says of it
# Settings that name things, and the kinds of value that can.
NAMED = {"experts": dict, "arms": (dict, list), "baselines": (dict, list)}
# What helps where the settings of a run are lost; its results are in run.db.
WAY_OUT = (
    "; no command can show or resume a run without its settings. Put the file back from a copy; or give the same "
    f"`run`, `screen` or `transfer` another folder, stop it once it works, and copy that folder's {CONFIG} "
    f"here. The results are safe in {DATABASE}, which sqlite3 and selfdev_engine.Store read"
)
POPULATION = "population"  # key of the store: of how many programs the best are wanted

Settings = Mapping[str, object]
# What to do with a run that is there already.
Existing = Literal["resume", "refuse", "replace"]


@contextmanager
def open_folder(
    folder: Path, wanted: Settings, existing: Existing, complete: Callable[[Settings], Settings]
) -> Iterator[Callable[[], None]]:
    """Be the one writer of a run folder with these settings, new or as they are in its config.yaml.

    `complete` fills in what a config of an older version lacks. Yields what is to be called once the
    run has begun: until then a run that this one replaces is only set aside, and comes back after an
    error. UsageError names what is in the way, and which settings differ.
    """
    place = real(folder)
    with ExitStack() as stack:
        with naming_run(folder):
            stack.enter_context(claimed(place))
            check_earlier(folder, wanted, existing, complete)
            if existing != "resume" or not holds_run(place):
                if holds_run(place):
                    stack.enter_context(set_aside(place))
                write_config(place, wanted)
        yield lambda: forget_old(place)
        forget_old(place)


def check_place(
    folder: Path, wanted: Settings, existing: Existing, complete: Callable[[Settings], Settings]
) -> None:
    """Raise UsageError where `open_folder` would, before anything is paid for. Changes nothing."""
    place = real(folder)
    with naming_run(folder):
        check_ours(place)
        check_free(place / LOCK, f"--run {folder}")
        check_earlier(folder, wanted, existing, complete)
        check_writable(place)


def holds_run(place: Path) -> bool:
    return any((place / name).exists() for name in (CONFIG, DATABASE))


def check_earlier(
    folder: Path, wanted: Settings, existing: Existing, complete: Callable[[Settings], Settings]
) -> None:
    """Raise UsageError where the run that is there is in the way, or is another one."""
    if not holds_run(place := real(folder)):
        return
    if existing == "replace":
        return check_replaceable(place)
    if existing == "refuse":
        # One whose settings are lost is of no command.
        if (place / CONFIG).exists():
            check_same_command(folder, read_config(folder), wanted)
        raise UsageError(f"--run {folder}: holds a run; give --resume to go on, or --overwrite")
    found = read_config(folder)
    check_same_command(folder, found, wanted)
    check_settings(folder, complete(found), wanted)


def check_same_command(folder: Path, found: Settings, wanted: Settings) -> None:
    """Raise UsageError where another command made the run that is there."""
    there, now = command_of(found), command_of(wanted)
    if there != now:
        raise UsageError(
            f"--run {folder}: holds a run of `{there}`, which `{now}` cannot go on with; "
            "name another folder"
        )


def command_of(settings: Settings) -> str:
    """Name the command that makes runs with such settings."""
    if TRANSFER in settings:
        return "transfer"
    return "run" if "iterations" in settings else "screen"


def write_config(folder: Path, wanted: Settings) -> None:
    """Write config.yaml beside its place and rename it, so that nothing is half-made."""
    fresh = folder / f"{CONFIG}.{os.getpid()}"
    fresh.write_text(yaml.safe_dump(dict(wanted), sort_keys=False))
    fresh.rename(folder / CONFIG)


def read_config(folder: Path) -> Settings:
    """Return the settings of a run. UsageError where its config.yaml is damaged."""
    config = folder / CONFIG
    way_out = WAY_OUT if (folder / DATABASE).is_file() else ""
    try:
        found = load_yaml(read_text(config), config, PlainLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{config}: not YAML: {in_yaml(error)}{way_out}") from None
    except UsageError as error:
        raise UsageError(f"{error}{way_out}") from None
    if not isinstance(found, dict):
        what = "is empty" if found is None else "is not a mapping of settings"
        raise UsageError(f"{config}: {what}{way_out}")
    for key, kinds in NAMED.items():
        if found.get(key) is not None and not isinstance(found[key], kinds):
            raise UsageError(f"{config}: {key} is {shown(found[key])}, which names none{way_out}")
    return found


def check_settings(folder: Path, found: Settings, wanted: Settings) -> None:
    """Raise UsageError where settings differ. Places do not count where contents are recorded."""
    if knows_inputs(folder):
        found, wanted = without_places(found), without_places(wanted)
    check_same(folder, found, wanted)


def knows_inputs(folder: Path) -> bool:
    """Tell whether a run has recorded the contents that it belongs to."""
    if not is_begun(folder / DATABASE):
        return False
    with Store.read(folder / DATABASE) as store:
        return bool(store.inputs())


def without_places(settings: Settings) -> Settings:
    """Return settings without where things lie. Experts keep their names and their order."""
    plain = {key: value for key, value in settings.items() if key not in PLACES}
    if isinstance(experts := plain.get("experts"), Mapping):
        plain["experts"] = list(experts)
    if isinstance(generation := plain.get("generation"), Mapping):
        plain["generation"] = {k: v for k, v in generation.items() if k != "prompt"}
    return plain


def check_same(folder: Path, found: Settings, wanted: Settings) -> None:
    """Raise UsageError with the first setting that differs, its value there and its value now."""
    there, now = flat(found), flat(wanted)
    for key in dict.fromkeys((*now, *there)):
        if key not in FREE_IN_RUN and there.get(key) != now.get(key):
            raise UsageError(
                f"--run {folder}: holds a run with other settings: {key} is "
                f"{there.get(key, 'not set')!r} there and {now.get(key, 'not set')!r} here; "
                "name another folder"
            )


def flat(settings: Settings, prefix: str = "") -> dict[str, object]:
    """Return nested settings as one level: {"dpo": {"beta": 0.01}} becomes {"dpo.beta": 0.01}."""
    found: dict[str, object] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


# ---- a screening's settings and programs


def comparable(settings: ScreenSettings) -> dict[str, object]:
    """Return the settings that a resumed run must share, with absolute paths of models and data."""
    plain: dict[str, object] = {k: v for k, v in asdict(settings).items() if k not in FREE}
    plain["base"] = str(locate(settings.base).absolute())
    plain["experts"] = {n: str(locate(p).absolute()) for n, p in settings.experts.items()}
    if settings.task.startswith("jsonl:"):
        plain["task"] = f"jsonl:{path_of(settings.task).absolute()}"
    return plain


def completed(found: Settings) -> Settings:
    """Return the settings of an older version, with defaults for those that it did not know."""
    defaults = ScreenSettings(base="", experts={}, task="")
    known = {f.name: getattr(defaults, f.name) for f in fields(defaults) if f.name not in FREE}
    return {**known, **found}


def keep_labels(store: Store, settings: ScreenSettings) -> None:
    """Keep the name and the note that the run was given; those of an earlier command stay otherwise."""
    for key, value in ((NAME, settings.name), (NOTE, settings.note)):
        if value is not None:
            store.set_setting(key, clean(value))


def state_population(store: Store, count: int, settings: ScreenSettings, folder: Path) -> None:
    """Keep the number of programs that a race is for.

    UsageError where a resumed race has another number, since candidates were stopped by the first.
    """
    stated = store.setting(POPULATION, "whole")
    if stated is None:
        store.set_setting(POPULATION, count)
    elif stated != count and settings.race != "full":
        raise UsageError(
            f"--run {folder}: holds a race of {stated} programs, not {count}; name another folder"
        )


def check_texts(
    store: Store, programs: Sequence[tuple[str, str]], folder: Path
) -> dict[str, Candidate]:
    """Return the store's candidates by id. UsageError where one of the programs has another text there."""
    known = {c.id: c for c in store.candidates()}
    for name, text in programs:
        if name in known and known[name].source != clean(text):
            raise UsageError(
                f"--run {folder}: program {name!r} has another text there; give it another name, or "
                "name another folder"
            )
    return known


def add_programs(
    store: Store, programs: Sequence[tuple[str, str]], settings: ScreenSettings, folder: Path
) -> None:
    """Add new programs to the store, and the base before them.

    UsageError where a known id has another text.
    """
    known = check_texts(store, programs, folder)
    fresh = [(name, text) for name, text in programs if name not in known]
    with store.transaction():
        if BASE not in known:
            store.add_candidates([{"id": BASE, "source": None}])
        store.add_candidates({"id": n, "source": t, "params": settings.params} for n, t in fresh)


def write_samples(store: Store, path: Path) -> None:
    """Write all answers as JSON lines; the file is complete or not there."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("w") as file:
        for sample in store.samples():
            file.write(json.dumps(sample) + "\n")
    fresh.rename(path)
