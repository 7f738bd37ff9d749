"""A candidate is a merge program under evaluation; this is what run.db keeps of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..errors import Rejection, UsageError

# The id of the base, which is scored first.
BASE = "base"
# This name stands for the best candidate, where no candidate has it as its id.
BEST = "best"
# The arm of a run that its own settings describe; known models count to it, too.
MAIN = "main"


def stored(text: str) -> Any:
    """Return the value of a JSON text of run.db. UsageError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(f"a value in it is not JSON ({error})") from None


def damaged(what: str) -> UsageError:
    return UsageError(
        f"run.db is damaged: {what}; restore the folder from a copy, or start the run again"
    )


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


def candidate_of(row: sqlite3.Row) -> Candidate:
    """Make a Candidate of a row of run.db. UsageError where that has another form."""
    values = dict(zip(row.keys(), row, strict=True))
    params, linear, status = stored(values["params"]), values["linear"], values["status"]
    linear = stored(linear) if linear else None
    if not isinstance(params, dict) or not (linear is None or is_linear(linear)):
        raise damaged(f"parameters or linear equivalent of {values['id']!r} have another form")
    if status and status not in list(Status):
        raise damaged(f"the status of {values['id']!r} is {status!r}")
    values |= {"params": params, "linear": linear, "held_out": bool(values["held_out"])}
    return Candidate(**{**values, "status": Status(status) if status else None})


def is_linear(found: Any) -> bool:
    """Tell whether a value is a linear equivalent: coefficients by expert, and a residual."""
    match found:
        case {"coefficients": dict(numbers), "residual": residual}:
            return all(isinstance(n, int | float) for n in (residual, *numbers.values()))
    return False


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
