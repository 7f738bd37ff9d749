"""What a screening has done so far, in numbers and words for whoever watches it. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..records.candidate import Status
from ..records.store import Store

if TYPE_CHECKING:
    from .pipeline import Screener

NUM_LEADERS = 3
# Programs of these statuses ran.
VALID = (Status.SCORED, Status.STOPPED, Status.DUPLICATE)


@dataclass(frozen=True)
class Glance:
    """How candidates ended, the best of them, and what the workers do.

    `copies` have the text of an earlier sample; `decided` counts all others that ended. `rejected` counts rejections by kind, `leaders` are (id, score, interval), `busy_share` is the share of
    the workers' time in which they answered; None before any work. `workers` says what each one does now.
    """

    valid: int
    decided: int
    copies: int
    rejected: Mapping[str, int]
    leaders: Sequence[tuple[str, str, str]]
    busy_share: float | None
    workers: Sequence[str]


def glance_at(screener: Screener) -> Glance:
    """Look at a screening that is going on."""
    tally = screener.store.tally()
    ended = {(status, kind): n for (status, kind), n in tally.items() if status is not None}
    session = screener.session
    return Glance(
        valid=sum(n for (status, _), n in ended.items() if status in VALID),
        decided=sum(n for (status, _), n in ended.items() if status is not Status.COPY),
        copies=sum(n for (status, _), n in ended.items() if status is Status.COPY),
        rejected={str(kind): n for (status, kind), n in ended.items() if status is Status.REJECTED},
        leaders=board(screener.store),
        busy_share=session.usage.busy_share,
        workers=session.doing,
    )


def board(store: Store) -> list[tuple[str, str, str]]:
    """Return (id, score, interval) of the best candidates so far, as words for people."""
    return [
        (name, f"{score.score:.3f}", f"[{score.low:.3f}, {score.high:.3f}]")
        for name, score in store.leaders(NUM_LEADERS)
    ]
