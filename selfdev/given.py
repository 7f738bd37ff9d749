"""Checks the types of what Python functions are given, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, in_one_line
from ..engine.screening.settings import MAX_SEED
from ..engine.weights.locate import at_home

MOST_SHOWN = 60


def given_path(name: str, value: object) -> Path:
    """Return a path that a caller gave as str or Path, with ~ expanded."""
    if not isinstance(value, str | PathLike) or not str(value):
        raise wrong(name, "a path, as str or Path", value)
    return at_home(value)


def given_place(name: str, value: object) -> str:
    """Return the place of a model: a folder, or a hub id."""
    if not isinstance(value, str | PathLike):
        raise wrong(name, "a folder or hub id, as str or Path", value)
    return str(value)


def given_experts(value: object) -> dict[str, str]:
    """Return the experts' places by their names."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise wrong("experts", 'a dict, such as {"math": "models/math"}', value)
    return {key: given_place(f"experts[{key!r}]", place) for key, place in value.items()}


def given_params(value: object) -> dict:
    """Return the parameters of a program; none for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise wrong("params", 'a dict, such as {"density": 0.3}', value)
    return dict(value)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """UsageError for what is no whole number, or out of its range. None is one that was not given."""
    if value is None:
        return
    highest = value if most is None else most
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= highest:
        return
    bounds = f"at least {least}" + (f", at most {most}" if most is not None else "")
    raise wrong(name, f"a whole number, {bounds}", value)


def check_seed(value: object) -> None:
    """UsageError for what is no seed."""
    check_whole("seed", value, 0, MAX_SEED)


def check_flag(name: str, value: object) -> None:
    """UsageError for what is neither True nor False: the text "no" would count as True."""
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)


def wrong(name: str, wanted: str, value: object) -> UsageError:
    """Return the error for a value of another type."""
    shown = in_one_line(repr(value))
    cut = f"{shown[:MOST_SHOWN]}..." if len(shown) > MOST_SHOWN else shown
    return UsageError(f"{name}: give {wanted}, not {cut}")
