"""The place of one worker: it is started there, opened, and replaced by another one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from ..errors import EngineGone, WorkerBug, WorkerLost
from .job import MAX_TRIES, PooledWorker

W = TypeVar("W", bound=PooledWorker)


class Seat(Generic[W]):
    """Holds one worker at a time. `number` tells the seats of a pool apart.

    `start` makes a worker and returns at once. The `starter` is an executor of one thread, because the
    kernel ends a process with the thread that started it.
    """

    def __init__(self, number: int, start: Callable[[int], W], starter: Executor) -> None:
        self.number, self._start, self._starter = number, start, starter
        self._lock = Lock()
        self._starting: Future[W] = starter.submit(start, number)
        # The worker, once it is open.
        self.worker: W | None = None
        # Names of the jobs that are done here now, one a lane.
        self.jobs: list[str] = []
        # Workers that were ended because they had met a bug, not by what else they were doing.
        self.distrusted: list[W] = []
        self._num_failed, self.is_given_up = 0, False

    def ready(self, open_worker: Callable[[W], None]) -> W:
        """Return the worker, opened where it is not. Raises what `open_worker` raises.

        After a worker that ended while it was opened there is another one; after MAX_TRIES in a row the
        seat is given up.
        """
        with self._lock:
            if self.is_given_up:
                raise EngineGone("no worker opens here")
            if self.worker is None:
                worker = self._starting.result()
                try:
                    open_worker(worker)
                except (WorkerLost, EngineGone, WorkerBug):
                    self._failed()
                    raise
                self.worker, self._num_failed = worker, 0
            return self.worker

    @property
    def doing(self) -> str:
        """What happens here now, in words."""
        if self.is_given_up:
            return "given up: no worker opens here"
        if self.worker is None:
            return "starts: engine, weights, checks"
        return ", ".join(self.jobs) or "idle"

    def _failed(self) -> None:
        self._num_failed += 1
        # A seat that was killed stays given up: its other lane must not open another worker.
        self.is_given_up = self.is_given_up or self._num_failed >= MAX_TRIES
        self._end()
        if not self.is_given_up:
            self._starting = self._starter.submit(self._start, self.number)

    def replace(self, worker: W) -> None:
        """Start another worker, unless this one's seat has another one by now."""
        with self._lock:
            if self.worker is not worker:
                return
            self.worker = None
            self._end()
            if not self.is_given_up:
                self._starting = self._starter.submit(self._start, self.number)

    def _end(self) -> None:
        with suppress(Exception):
            self._starting.result().stop()

    def kill(self) -> None:
        """Kill what was started, without waiting for its end, and start nothing more."""
        self.is_given_up = True
        if not self._starting.cancel():
            with suppress(Exception):
                self._starting.result().kill()

    def stop(self) -> None:
        """End what was started."""
        if not self._starting.cancel():
            self._end()
