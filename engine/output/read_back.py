"""Reads back what was written, before anybody is told that it is done."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from .companions import Companions


def read_back(folder: Path, base: Checkpoint, companions: Companions) -> None:
    """Raise UsageError unless the folder's headers, index, config and companions are as they should be."""
    written = Checkpoint.open(str(folder))
    for name, entry in base.entries.items():
        found = written.entries.get(name)
        if found is None or (found.dtype, found.shape) != (entry.dtype, entry.shape):
            raise wrong(folder / entry.file.name, f"does not hold {name} as the base has it")
    if written.config != base.config:
        raise wrong(folder / "config.json", "is not the base's")
    for name, source in companions.files.items():
        if (folder / name).stat().st_size != source.stat().st_size:
            raise wrong(folder / name, f"is not {source}")
        if name.endswith(".json") and is_json(source) and not is_json(folder / name):
            raise wrong(folder / name, "is no longer JSON")


def is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def wrong(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path.name}: was written and then read back: it {what}; the disk or the base changed "
        "meanwhile, and nothing is kept: merge again"
    )
