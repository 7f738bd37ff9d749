"""Records what a run belongs to: its models, task, grader and engine, by content."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..weights.contents import FileFacts
from ..weights.fingerprint import is_comparable
from .candidate import clean
from .forms import Form, in_file, stored

WEIGHTS = "weights"  # the part that is all tensors of a model; absent until they were read


FILE: Form = {
    "name": "text",
    "size_bytes": "whole",
    "mtime_ns": "whole",
    "ctime_ns": "whole",
    "header": "text",
}


@dataclass(frozen=True)
class Input:
    """One of the things that a run belongs to.

    `role` is "base", "expert NAME", "generator", "prompt", "task", "grader" or "engine". `parts` are
    digests (or versions) of its contents by name; `files` are the weight files, as they looked.
    """

    role: str
    place: str
    files: tuple[FileFacts, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_read(self) -> bool:
        """Whether all of its contents are known, by a digest that can be compared."""
        return not self.files or is_comparable(self.parts.get(WEIGHTS, ""))

    def to_row(self) -> tuple[str, str | None, str, str]:
        files = json.dumps([file.to_json() for file in self.files])
        return self.role, clean(self.place), files, json.dumps(dict(self.parts))


def input_of(row: sqlite3.Row, path: Path) -> Input:
    """Make an Input of a row of run.db. UsageError where that has another form."""
    role = f"row with role {row['role']!r}"
    found = stored(row["files"], in_file(path, "table inputs", "column files", role), (FILE,))
    parts = stored(row["parts"], in_file(path, "table inputs", "column parts", role), {"*": "text"})
    return Input(row["role"], row["place"], tuple(file_of(facts) for facts in found), parts)


def file_of(found: Mapping[str, Any]) -> FileFacts:
    return FileFacts(**{key: found[key] for key in FILE})
