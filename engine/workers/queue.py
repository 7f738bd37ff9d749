"""The jobs of a pool that wait for a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from threading import Condition

from .job import PoolJob


class JobQueue:
    """Hands out jobs in order. Once it has ended there are none, and what is put into it is settled."""

    def __init__(self) -> None:
        self._jobs, self._changed = deque[PoolJob](), Condition()
        self.has_ended = False
        self._error: BaseException | None = None

    def put(self, job: PoolJob, *, first: bool = False) -> None:
        """Add a job behind those that wait, or before them."""
        with self._changed:
            if not self.has_ended:
                self._jobs.insert(0 if first else len(self._jobs), job)
                return self._changed.notify_all()
        self._settle(job)

    def take(
        self, may_wait: Callable[[], bool], may_do: Callable[[PoolJob], bool]
    ) -> PoolJob | None:
        """Wait for a job that the caller may do, as long as it may wait. None where there is none."""
        with self._changed:
            while may_wait() and not self.has_ended:
                if job := next(filter(may_do, self._jobs), None):
                    self._jobs.remove(job)
                    return job
                self._changed.wait()
        return None

    def wake(self) -> None:
        """Let those who wait ask again whether they may wait, and what they may do."""
        with self._changed:
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Settle all jobs with this error, or cancel them; the first end counts."""
        with self._changed:
            if not self.has_ended:
                self.has_ended, self._error = True, error
            waiting, self._jobs = list(self._jobs), deque[PoolJob]()
            self._changed.notify_all()
        for job in waiting:
            self._settle(job)

    def _settle(self, job: PoolJob) -> None:
        if self._error:
            settle(job, self._error)
        else:
            job.future.cancel()


def settle(job: PoolJob, error: BaseException) -> None:
    """Give a job its error, unless nobody waits for it any more."""
    with suppress(InvalidStateError):
        job.future.set_exception(error)
