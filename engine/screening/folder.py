"""The run folder of a screening: made, recognised, resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError
from ..records.candidate import BASE, clean
from ..records.store import Store
from ..weights.checkpoint import Checkpoint
from .settings import ScreenSettings

FREE = ("memory_bytes", "log_samples", "unsafe_sandbox")  # may change between resumes


def open_folder(folder: Path, settings: ScreenSettings) -> None:
    """Make the run folder, or see that it belongs to the same settings."""
    wanted = comparable(settings)
    config = folder / "config.yaml"
    if config.exists():
        if yaml.safe_load(config.read_text()) != wanted:
            raise UsageError(
                f"--run {folder}: holds a run with other settings; name another folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--run {folder}: holds files that are no run of this command")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--run {folder}: cannot be made: {error.strerror}") from None
    fresh = folder / f"config.yaml.{os.getpid()}"
    fresh.write_text(yaml.safe_dump(wanted, sort_keys=False))
    fresh.rename(config)


def comparable(settings: ScreenSettings) -> dict[str, Any]:
    """Settings with absolute places, without those that change no score."""
    plain = {k: v for k, v in asdict(settings).items() if k not in FREE}
    plain["base"] = str(Checkpoint.open(settings.base).folder.absolute())
    plain["experts"] = {
        n: str(Checkpoint.open(p).folder.absolute()) for n, p in settings.experts.items()
    }
    if settings.task.startswith("jsonl:"):
        plain["task"] = f"jsonl:{Path(settings.task.removeprefix('jsonl:')).absolute()}"
    return plain


def state_population(store: Store, count: int, settings: ScreenSettings, folder: Path) -> None:
    """A race is for the best of a stated number: what it stopped would not stand among more."""
    stated = store.setting(POPULATION)
    if stated is None:
        store.set_setting(POPULATION, count)
    elif stated != count and settings.race != "full":
        raise UsageError(
            f"--run {folder}: holds a race of {stated} programs, not {count}; name another folder"
        )


def add_programs(
    store: Store, programs: Sequence[tuple[str, str]], settings: ScreenSettings, folder: Path
) -> None:
    """New programs into the store; one that is there must be the same text."""
    known = {c.id: c for c in store.candidates()}
    for name, text in programs:
        if name in known and known[name].source != clean(text):
            raise UsageError(f"--run {folder}: program {name!r} has another text there")
    fresh = [(name, text) for name, text in programs if name not in known]
    with store.transaction():
        if BASE not in known:
            store.add_candidates([{"id": BASE, "source": None}])
        store.add_candidates({"id": n, "source": t, "params": settings.params} for n, t in fresh)


def write_samples(store: Store, path: Path) -> None:
    """All answers, complete or not there."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("w") as file:
        for sample in store.samples():
            file.write(json.dumps(sample) + "\n")
    fresh.rename(path)


POPULATION = "population"  # the setting of a store: of how many programs the best are wanted
