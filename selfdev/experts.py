"""Checks names and places of models, as commands and Python functions take them, and reads those of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError


def place_of(expert: Any) -> Any:
    """Where an expert of a run's settings is; those of a loop may say more about it."""
    return expert.get("model") if isinstance(expert, Mapping) else expert


def check_experts(experts: Mapping[str, str]) -> None:
    """Raise UsageError where there is none, or a name or a place is empty or cannot be printed."""
    if not experts:
        raise UsageError("no expert is given: add --expert NAME=DIR")
    for name, place in experts.items():
        if not name or not place:
            raise UsageError(f"expert {name!r}: give it a name and a folder or hub id")
        if not name.isprintable():
            raise UsageError(f"--expert {name!r}: a character of the name cannot be printed")


def check_still_there(run: Path, place: str, role: str, option: str) -> None:
    """Raise UsageError where a run's model lay in a folder that is gone; `option` says where it is now."""
    if os.path.isabs(place) and not os.path.lexists(place):
        raise UsageError(
            f"{place}: no such model folder; {run} had its {role} there: say with {option} where it is now"
        )
