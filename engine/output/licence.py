"""Finds the licence that all models of a merge share, as their own model cards say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..weights.strict_yaml import PlainLoader, load_yaml

CARD = "README.md"
# What the hub calls a licence that is none of its own list.
OTHER = "other"
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
# The head of a card is short; what comes after is not read.
MOST_BYTES = 64 << 10


def shared_licence(folders: Sequence[Path]) -> str | None:
    """Return the licence that the cards in all folders name; None where one names another, or none."""
    found = {licence_of(folder) for folder in folders}
    only = found.pop() if len(found) == 1 else None
    return None if only == OTHER else only


def licence_of(folder: Path) -> str | None:
    """Return the licence in the head of a folder's model card; None where it cannot be told."""
    try:
        with (folder / CARD).open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
        head = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
        data = load_yaml(head[1], folder / CARD, PlainLoader) if head else None
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return None
    licence = data.get("license") if isinstance(data, dict) else None
    if isinstance(licence, str) and IDENTIFIER.fullmatch(licence.lower()):
        return licence.lower()
    return None
