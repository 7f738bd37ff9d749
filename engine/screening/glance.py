"""What a screening has done so far, in numbers and words for whoever watches it. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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

    `copies` have the text of an earlier sample; `decided` counts all others that ended. `rejected` counts
    rejections by kind, `leaders` are (id, score, interval). `busy_share` is the share of the workers' time in
    which they answered; None before any work. `workers` says what each one does now.
    """

    valid: int
    decided: int
    copies: int
    rejected: Mapping[str, int]
    leaders: Sequence[tuple[str, str, str]]
    busy_share: float | None
    workers: Sequence[str]


class Progress(Protocol):
    """What a screening tells whoever watches it; the commands show it as a bar.

    `stage` begins a stage, `update` says how much of it is done, `facts` lets the watcher look.
    """

    def stage(self, label: str, total: int | None = None) -> object: ...
    def update(self, done: int, total: int | None = None) -> None: ...
    def facts(self, look: Callable[[], Glance]) -> None: ...


def glance_at(screener: Screener) -> Glance:
    """Look at a screening that is going on."""
    counts, session = screener.store.counts(), screener.session
    ended = {status: n for status, n in counts.items() if status not in ("open", Status.COPY)}
    return Glance(
        valid=sum(ended.get(status, 0) for status in VALID),
        decided=sum(ended.values()),
        copies=counts.get(Status.COPY, 0),
        rejected=screener.store.kinds(),
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
