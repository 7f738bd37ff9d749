"""A local pool: threads drive workers, idle workers pull jobs, what fails is tried on another worker.

The pool knows no engine. It starts workers, opens them, gives each the next job, and replaces those that
are lost or met a bug, while the others go on. A job is tried at most MAX_TRIES times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Generic, TypeVar

from ..errors import EngineGone, WorkerBug, WorkerLost
from .job import MAX_TRIES, Incident, PooledWorker, PoolJob, Quarantined
from .queue import JobQueue, settle
from .seat import Seat

W = TypeVar("W", bound=PooledWorker)
T = TypeVar("T")


class Pool(Generic[W]):
    """Runs jobs on `num_workers` workers. `close` ends them.

    `start` makes the worker of a seat's number, and returns at once; `open_worker` makes it ready. Each
    seat has `lanes` threads, so that its next call can be on the way before it answers the last one. The
    first worker opens alone and the others follow, so that they find what it left in caches. `incidents`
    has what went wrong, in the order in which it was seen.
    """

    def __init__(
        self,
        start: Callable[[int], W],
        open_worker: Callable[[W], None],
        num_workers: int,
        lanes: int = 1,
    ) -> None:
        self._open, self.incidents = open_worker, deque[Incident]()
        self._jobs, self._first_is_open = JobQueue(), Event()
        self._starter = ThreadPoolExecutor(1, "starter")
        self._seats = [Seat(number, start, self._starter) for number in range(num_workers)]
        self._drivers = ThreadPoolExecutor(num_workers * lanes, "worker")
        for seat in self._seats * lanes:
            self._drivers.submit(self._drive, seat)

    def submit(self, name: str, run: Callable[[W], T]) -> Future[T]:
        """Have some worker do this. The future raises what `run` raised, or Quarantined.

        `run` makes calls to the worker, in a thread of the pool, and may be tried again.
        """
        job = PoolJob(name, run)
        self._jobs.put(job)
        return job.future

    @property
    def doing(self) -> list[str]:
        """What each worker does now, in words, by its number."""
        return [seat.doing for seat in self._seats]

    @property
    def workers(self) -> list[W]:
        """The workers that are open now."""
        return [seat.worker for seat in self._seats if seat.worker is not None]

    def close(self) -> None:
        """End all workers; jobs that are not done are cancelled."""
        self._jobs.end()
        self._first_is_open.set()
        for seat in self._seats:
            seat.kill()
        self._drivers.shutdown()
        for seat in self._seats:
            seat.stop()
        self._starter.shutdown()

    # ---- what the threads do

    def _drive(self, seat: Seat[W]) -> None:
        """Do jobs on the worker of a seat until the pool ends or the seat is given up."""
        if seat.number > 0:
            self._first_is_open.wait()
        while not (self._jobs.has_ended or seat.is_given_up):
            try:
                worker = seat.ready(self._open)
            except (WorkerLost, EngineGone, WorkerBug) as error:
                self._did_not_open(seat, error)
            except BaseException as error:
                self._break(error)
            else:
                self._first_is_open.set()
                if job := self._jobs.take(
                    lambda: not seat.is_given_up, seat_may(seat, self._seats)
                ):
                    self._do(seat, worker, job)

    def _did_not_open(self, seat: Seat[W], error: Exception) -> None:
        """Note it. Where the seat is given up others do its jobs; after the last one nobody can.

        Others open now in any case: the next worker here may have no place before one of them has ended.
        """
        if not isinstance(error, EngineGone):
            self._note("", seat, error)
        self._first_is_open.set()
        if seat.is_given_up:
            self._jobs.wake()
        if all(other.is_given_up for other in self._seats):
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """End the work, since no worker can be opened: all jobs have this error."""
        self._jobs.end(error)
        self._first_is_open.set()

    def _do(self, seat: Seat[W], worker: W, job: PoolJob) -> None:
        """Do a job, and settle its future, or leave it to another worker."""
        seat.jobs.append(job.name)
        try:
            if not worker.is_alive:
                raise EngineGone("the worker ended while it had nothing to do")
            result = job.run(worker)
        except EngineGone:
            # It was lost under another job or under none, so this one has not been tried.
            self._jobs.put(job, first=True)
            seat.replace(worker)
        except (WorkerLost, WorkerBug) as error:
            self._fell(seat, worker, job, error)
        except BaseException as error:
            settle(job, error)
        else:
            with suppress(InvalidStateError):
                job.future.set_result(result)
        finally:
            seat.jobs.remove(job.name)

    def _fell(self, seat: Seat[W], worker: W, job: PoolJob, error: Exception) -> None:
        """Note that a job fell under a worker; another worker takes the seat, and tries it or not."""
        if isinstance(error, WorkerBug):
            # What it holds now is not known, and another lane's call ends with it.
            seat.distrusted.append(worker)
        if isinstance(error, WorkerBug) or worker not in seat.distrusted:
            job.incidents.append(self._note(job.name, seat, error))
        if len(job.incidents) < MAX_TRIES:
            self._jobs.put(job, first=True)
        else:
            settle(job, Quarantined(job.incidents))
        seat.replace(worker)

    def _note(self, job: str, seat: Seat[W], error: Exception) -> Incident:
        kind = "worker bug" if isinstance(error, WorkerBug) else "worker lost"
        found = Incident(job, seat.number, kind, str(error))
        if not self._jobs.has_ended:
            self.incidents.append(found)
        return found


def seat_may(seat: Seat[W], seats: list[Seat[W]]) -> Callable[[PoolJob], bool]:
    """Return whether a job is for this seat: where it fell here before, only if no other is left."""

    def may_do(job: PoolJob) -> bool:
        others = (other for other in seats if not other.is_given_up)
        return not job.fell_under(seat.number) or all(job.fell_under(o.number) for o in others)

    return may_do
