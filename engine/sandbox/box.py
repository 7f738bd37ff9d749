"""The driver's side of the sandbox: gives each job a child of the zygote, and kills it in time.

A job in steps: socketpair -> fork in the zygote -> pidfd here -> request -> value questions
-> reply -> SIGKILL at once (a polite exit is not waited for) -> "exited" frees the slot. A child's
clock runs only while the driver listens, and no send waits for a child that does not read. Past its
deadline a child gets SIGUSR1, which makes it say its line, and 50 ms later SIGKILL.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from .cell import Cell, MappedFiles
from .child import Child
from .job import Backlog, Job
from .layers import check_layers, usable_layers
from .mailbox import Mailbox
from .protocol import Setup
from .zygote_process import ChildEnd, ZygoteLost, ZygoteProcess

CPU_SLACK_S = 5  # seconds of CPU beyond the wall clock


class Sandbox:
    """A zygote and its children. It is a context manager.

    If the zygote dies, another one is started and the jobs in flight are tried once more.
    """

    def __init__(
        self, handler: str, *, timeout_s: float, memory_bytes: int, unsafe: bool = False
    ) -> None:
        check_layers(unsafe)
        self.handler, self.timeout_s, self.memory_bytes = handler, timeout_s, memory_bytes
        self._children: dict[int, Child] = {}
        self._over: list[Job] = []  # jobs that ended while their child went on with another
        self._start()

    def _start(self) -> None:
        self._zygote = ZygoteProcess(self.handler, usable_layers())
        self._away_since = time.monotonic()

    def cell(self, memory_bytes: int, limit_s: float, files: MappedFiles) -> Cell:
        """Opens a child for several requests, which may use `limit_s` seconds. Raises ZygoteLost."""
        self._zygote.wait_ready()
        setup = Setup(memory_bytes, int(limit_s) + CPU_SLACK_S, files.maps)
        return Cell(self._zygote, setup, files.descriptors, limit_s)

    # ---- running jobs

    def run(self, jobs: Iterable[Job], slots: int = 2) -> Iterator[Job]:
        """Yields jobs in the order in which they finish, with up to `slots` in flight.

        If the caller stops iterating, the children in flight are ended.
        """
        try:
            yield from self._run(jobs, slots)
        finally:
            self._end_children()

    def _run(self, jobs: Iterable[Job], slots: int) -> Iterator[Job]:
        backlog = Backlog(jobs)
        while True:
            while len(self._children) < slots and (job := backlog.next()):
                yield from self._guarded(partial(self._launch, job), backlog, [job])
            if not self._children and not backlog.has_more_tries:
                return
            yield from self._guarded(self._step, backlog, [])

    def _guarded(
        self, step: Callable[[], list[Job]], backlog: Backlog, launching: list[Job]
    ) -> list[Job]:
        """Takes a step. If the zygote dies in it, starts another and puts jobs in flight back."""
        try:
            return step()
        except ZygoteLost:
            flying = [child.job for child in self._children.values()]
            flying += [job for job in launching if job not in flying]
            self.restart()
            return self._take_over() + backlog.put_back(flying)

    def _launch(self, job: Job) -> list[Job]:
        """Forks a child for the job. Returns the jobs that ended meanwhile."""
        self._zygote.wait_ready()
        ours, theirs = socket.socketpair()
        with theirs:
            pid, pidfd = self._zygote.fork([theirs.fileno()])
        child = Child(job, Mailbox(ours), pidfd, self.timeout_s, self._over)
        self._children[pid] = child
        # A child may use half of a job's time, and then take a job with all of its time.
        cpu_s = int(1.5 * self.timeout_s) + CPU_SLACK_S
        child.mail.send(Setup(self.memory_bytes, cpu_s).to_json())
        child.mail.send(job.request)
        return self._reaped()

    def _step(self) -> list[Job]:
        """Waits until something happens. Returns the jobs that ended."""
        self._stop_clocks()
        if finished := self._take_over() + self._reaped():
            return finished
        live = {c.mail.channel.fileno(): c for c in self._children.values() if c.stage != "dead"}
        control = self._zygote.control.fileno()
        poll = select.poll()
        poll.register(control, select.POLLIN)
        for descriptor, child in live.items():
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if child.mail.unsent else 0))
        wait_s = min((c.deadline - time.monotonic() for c in live.values()), default=1.0)
        events = poll.poll(max(0.0, wait_s) * 1000 + 1)
        self._away_since = time.monotonic()
        for descriptor, event in events:
            if descriptor != control and live[descriptor].stage != "dead":
                live[descriptor].attend(event)
        self._stop_clocks()
        for child in live.values():
            child.check_deadline()
        return self._take_over() + self._reaped()

    def _stop_clocks(self) -> None:
        """No child pays for what the driver, or who reads its results, did since the last poll."""
        now = time.monotonic()
        for child in self._children.values():
            child.pause(self._away_since, now)
        self._away_since = now

    def _reaped(self) -> list[Job]:
        """Returns the jobs of children that have ended, without waiting."""
        return [self._reap(end) for end in self._zygote.ends(self._children)]

    def _reap(self, end: ChildEnd) -> Job:
        return self._children.pop(end.pid).collected(end.status, end.cpu_s)

    def _take_over(self) -> list[Job]:
        over = list(self._over)
        self._over.clear()
        return over

    # ---- the end

    def _end_children(self) -> None:
        """Kills and collects what is in flight, so that the next run begins with empty slots."""
        self._over.clear()
        for child in self._children.values():
            child.kill()
        try:
            for pid in list(self._children):
                self._reap(self._zygote.end_of(pid))
        except ZygoteLost:
            self.restart()

    def restart(self) -> None:
        """Starts another zygote in place of one that has died: ZygoteLost was raised."""
        self.close()
        self._start()

    def close(self) -> None:
        """Ends the zygote and all children."""
        self._zygote.close()
        for child in self._children.values():
            child.close()
        self._children = {}

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
