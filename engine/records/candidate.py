"""A candidate, as run.db keeps it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Rejection

BASE = "base"

BEST = "best"  # in place of an id, where no candidate is called so


@dataclass(frozen=True)
class Candidate:
    """A row of `candidates`, with its trace. `status` is None until it is decided."""

    id: str
    ordinal: int
    source: str | None
    params: Mapping[str, Any]
    text: str  # a digest of source and params
    iteration: int | None
    generator: str | None
    status: str | None
    kind: str | None
    detail: str | None
    line: int | None
    duplicate_of: str | None
    linear: dict[str, Any] | None
    weights_fingerprint: str | None
    seconds: float | None
    tier: str | None
    fingerprint: str | None

    @property
    def rejection(self) -> Rejection | None:
        return Rejection(self.kind, self.detail or "", self.line) if self.kind else None


def candidate_of(row: sqlite3.Row) -> Candidate:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118
    values["params"] = json.loads(values["params"])
    values["linear"] = json.loads(values["linear"]) if values["linear"] else None
    return Candidate(**values)


def digest_of(source: str | None, params: str) -> str:
    """Equal for equal texts; the base has none."""
    if source is None:
        return ""
    return hashlib.sha256(f"{params}\n{source}".encode()).hexdigest()[:32]


def clean(text: str | None) -> str | None:
    """Text that SQLite takes: lone surrogates escaped, NUL dropped."""
    if text is None:
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "")
