"""A candidate is a merge program under evaluation; this is what run.db keeps of it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import Rejection
from .forms import Form, damaged, in_file, shown, stored

# The id of the base, which is scored first.
BASE = "base"
# This name stands for the best candidate, where no candidate has it as its id.
BEST = "best"
# The arm of a run that its own settings describe; known models count to it, too.
MAIN = "main"
# The weighted sum that is nearest to an update, by expert, and what it lacks of it.
LINEAR: Form = {"coefficients": {"*": "number"}, "residual": "number"}


class Status(StrEnum):
    """How a candidate ended. A candidate without a status is still to be decided."""

    SCORED = "scored"  # asked all questions
    STOPPED = "stopped"  # a race ended before the last question
    DUPLICATE = "duplicate"  # has the score of the candidate that it repeats
    REJECTED = "rejected"  # its program is at fault
    FAILED = "failed"  # an accident or a bug of ours; tried again by the next version
    COPY = "copy"  # in a loop, the same text as an earlier sample


# Statuses that the text alone explains: a later candidate of the same text ends alike.
OF_THE_TEXT = (Status.SCORED, Status.STOPPED, Status.DUPLICATE, Status.REJECTED)


@dataclass(frozen=True)
class Candidate:
    """A row of the table `candidates`, with the tier and fingerprint of its trace.

    `status` is None until it is decided. Candidates come from `Store` and are never changed.
    """

    id: str
    ordinal: int
    source: str | None  # None for the base
    params: Mapping[str, Any]
    text: str  # digest of source and params
    iteration: int | None
    generator: str | None  # fingerprint of the weights that wrote it
    status: Status | None
    kind: str | None
    detail: str | None
    line: int | None
    duplicate_of: str | None
    linear: dict[str, Any] | None
    weights_fingerprint: str | None
    seconds: float | None
    failed_by: str | None  # the version of this product under which it failed
    arm: str
    stop_reason: str | None  # how the sampling of its text ended (`Completion.finish_reason`)
    held_out: bool  # whether training never sees it
    tier: str | None
    fingerprint: str | None

    @property
    def has_score(self) -> bool:
        """Whether answers, its own or those of the one it repeats, say how good it is."""
        return self.status in (Status.SCORED, Status.STOPPED, Status.DUPLICATE)

    @property
    def has_answers(self) -> bool:
        """Whether it was asked itself, so that others may repeat it."""
        return self.status in (Status.SCORED, Status.STOPPED)

    @property
    def is_valid(self) -> bool:
        """Whether its program ran, and its score is on all questions."""
        return self.status in (Status.SCORED, Status.DUPLICATE)

    @property
    def rejection(self) -> Rejection | None:
        """Why the program was rejected; None where it was not."""
        return Rejection(self.kind, self.detail or "", self.line) if self.kind else None

    def is_open(self, version: str) -> bool:
        """Whether it is still to be decided; a failed one is tried once by each version."""
        if self.status is Status.FAILED:
            return self.failed_by != version
        return self.status is None


def candidate_of(row: sqlite3.Row, path: Path) -> Candidate:
    """Make a Candidate of a row of run.db. UsageError where that has another form."""
    values = dict(zip(row.keys(), row, strict=True))

    def place(column: str) -> str:
        where = f"column {column}", f"row with id {values['id']!r}"
        return in_file(path, "table candidates", *where)

    status, linear = values["status"], values["linear"]
    if status and status not in list(Status):
        raise damaged(place("status"), f"it is {shown(status)}, which no version knows")
    values["params"] = stored(values["params"], place("params"), "object")
    values["linear"] = stored(linear, place("linear"), LINEAR) if linear else None
    values |= {"held_out": bool(values["held_out"])}
    return Candidate(**{**values, "status": Status(status) if status else None})


def digest_of(source: str | None, params: str) -> str:
    """Return a name for a text with its parameters, equal for equal ones; empty for the base."""
    if source is None:
        return ""
    return hashlib.sha256(f"{params}\n{source}".encode()).hexdigest()[:32]


def clean(text: str | None) -> str | None:
    """Return the text so that SQLite takes it: lone surrogates are escaped, NUL is dropped."""
    if text is None:
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "")
