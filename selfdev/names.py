"""Finds the candidate of a run that a name means. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, did_you_mean
from ..engine.records.candidate import BEST, MAIN
from ..engine.records.store import Store

OF_ARM = f"/{BEST}"


def find_candidate(store: Store, config: Mapping[str, Any], name: str) -> str:
    """Return the id that a name means, by the run's settings.

    It is an id; else `best`, an expert, a baseline for its best setting, or ARM/best. UsageError for a
    name that fits nothing, or two candidates.
    """
    if store.candidate(name):
        return name
    fits = meanings(store, config, name)
    found = {known for known in fits.values() if known}
    if len(found) > 1:
        both = " and ".join(f"{what} ({known})" for what, known in fits.items() if known)
        raise UsageError(f"{store.path}: {name!r} fits twice: {both}; give the id")
    if found:
        return found.pop()
    if name == BEST:
        raise UsageError(f"{store.path}: no program was scored yet, so none is the best")
    if fits:
        raise UsageError(f"{store.path}: {name!r} is {next(iter(fits))}, which has no score yet")
    if name in (config.get("experts") or ()):
        raise UsageError(f"{store.path}: {name!r} is an expert, and a screening scores no experts")
    raise UsageError(
        f"{store.path}: has no candidate {name!r}{did_you_mean(name, known_names(store, config))}"
    )


def meanings(store: Store, config: Mapping[str, Any], name: str) -> dict[str, str | None]:
    """Return the ids that a name may mean besides an id, by what each is; None where it has no score."""
    found: dict[str, str | None] = {}
    if name == BEST:
        found["the best program"] = store.best()
    if name in experts_of_run(config):
        row = store.candidate(f"expert-{name}")
        found["an expert"] = row.id if row else None
    if name in (config.get("baselines") or ()):
        found["a baseline"] = store.best_setting(name)
    arm = name.removesuffix(OF_ARM)
    if arm != name and arm in arms_of(config):
        found[f"the best of arm {arm}"] = store.best(arm)
    return found


def experts_of_run(config: Mapping[str, Any]) -> list[str]:
    """Return the experts that a loop or a transfer scores; a screening scores none."""
    scores_them = "iterations" in config or "transfer" in config
    return list(config.get("experts") or ()) if scores_them else []


def is_known(config: Mapping[str, Any], iteration: int | None) -> bool:
    """Tell whether a candidate of no iteration is a known model: in a loop those are base, experts, baselines.

    They belong to no arm, though run.db has them in `main`.
    """
    return iteration is None and "iterations" in config


def check_arm(run: Path, config: Mapping[str, Any], arm: str) -> None:
    """Raise UsageError where the run has no such arm."""
    if arm not in (arms := arms_of(config)):
        near = did_you_mean(arm, arms)
        raise UsageError(f"{run}: has no arm {arm!r}; there are {', '.join(arms)}{near}")


def arms_of(config: Mapping[str, Any]) -> list[str]:
    return [MAIN, *(config.get("arms") or ())]


def known_names(store: Store, config: Mapping[str, Any]) -> list[str]:
    """Return every name that means a candidate of the run: a few words first, then the ids."""
    arms = [f"{arm}{OF_ARM}" for arm in arms_of(config)]
    groups = experts_of_run(config), config.get("baselines") or (), arms
    return [BEST, *(name for group in groups for name in group), *store.ids()]
