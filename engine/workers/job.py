"""A job: what some worker shall do, once, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..errors import EngineError

# A job is given up after it fell under this many workers, a seat after as many in a row did not open.
MAX_TRIES = 2


class PooledWorker(Protocol):
    """What the pool knows of a worker. A call to one that is gone raises WorkerLost or EngineGone."""

    @property
    def is_alive(self) -> bool: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Incident:
    """A worker was lost, or met a bug, under a job; `job` is empty where it was being opened."""

    job: str
    worker: int
    kind: Literal["worker lost", "worker bug"]
    detail: str


class Quarantined(EngineError):
    """A job ended two workers, or met a bug twice, so it is not tried again. It has what was seen."""

    def __init__(self, incidents: list[Incident]) -> None:
        last = incidents[-1]
        if all(one.kind == "worker bug" for one in incidents):
            super().__init__(last.detail)
        else:
            what = [f"{one.kind} (worker {one.worker})" for one in incidents]
            super().__init__(f"the engine died {len(what)} times under this: {', '.join(what)}")
        self.incidents = incidents


@dataclass
class PoolJob:
    """Calls to one worker, by a function of that worker; `future` gets its result."""

    name: str
    run: Callable[[Any], Any]
    future: Future[Any] = field(default_factory=Future)
    incidents: list[Incident] = field(default_factory=list)

    def fell_under(self, worker: int) -> bool:
        """Tell whether this worker has failed at it before."""
        return any(one.worker == worker for one in self.incidents)
