"""One request to a child of the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import Rejection
from .protocol import Json


def nothing_more(reply: Json) -> Job | None:
    """The default of `follow`: the child is given no other job."""
    return None


def nothing() -> None:
    """The default of `forget`: the job's owner keeps nothing of what a child said."""


@dataclass(eq=False)
class Job:
    """One request to a child and, once it has ended, its result: the child's reply or a Rejection.

    `answer` answers the child's value questions. It may raise Rejected, which ends the child.
    `follow` is given the reply and returns the next job for the same child, or None. `forget` is
    called before the job is tried once more: what the first child said no longer counts.
    """

    request: Json
    answer: Callable[[Json], Json]
    tag: Any = None  # for the caller's own use
    follow: Callable[[Json], Job | None] = nothing_more
    forget: Callable[[], None] = nothing
    result: Json | Rejection | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0  # used by the child, for all of its jobs
    num_asks: int = 0
    answers_s: float = 0.0  # the driver's time for the answers

    def begin_again(self) -> None:
        """Make the job as if no child had begun it."""
        self.num_asks = 0
        self.forget()


class Backlog:
    """Jobs that no child has begun, and jobs that are tried once more."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting = iter(jobs)
        self._again: list[Job] = []
        self._retried = set[Job]()

    def next(self) -> Job | None:
        return self._again.pop() if self._again else next(self._waiting, None)

    def put_back(self, jobs: list[Job]) -> list[Job]:
        """Takes jobs back whose zygote died. Returns those to which it happened before: they fail."""
        failed = [job for job in jobs if job in self._retried]
        for job in failed:
            job.result = Rejection("runtime", "the sandbox died twice under this program")
        again = [job for job in jobs if job not in self._retried]
        for job in again:
            job.begin_again()
        self._again += again
        self._retried |= set(jobs)
        return failed

    @property
    def has_more_tries(self) -> bool:
        return bool(self._again)
