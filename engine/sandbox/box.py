"""The engine's side of the sandbox: starts the zygote, gives each job a child, kills on time.

Timeline of a job: socketpair -> fork in the zygote -> pidfd here -> request -> questions and answers
-> reply -> SIGKILL at once (a polite exit is not waited for) -> "exited" frees the slot. A child's
clock runs only while the engine listens, and no send waits for a child that does not read. Past its
deadline it gets SIGUSR1 for the line it is at, and 50 ms later SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from ..errors import Rejected, Rejection, UsageError
from .guard import ENVIRONMENT
from .job import Child, Job
from .layers import missing_layers, usable_layers
from .protocol import MAX_ASKS, BadFrame, decode, encode, how_it_ended

TRACEBACK_S = 0.05
START_S = 120.0
MAX_ANSWERS_S = 120.0  # of the engine's own time for one program's questions
CPU_SLACK_S = 5
LINE = re.compile(rb'"<program>", line (\d{1,6}) in')


class ZygoteLost(RuntimeError):
    """The zygote died; another one is started and the jobs in flight are tried once more."""


class Sandbox:
    """A zygote and its children; a context manager."""

    def __init__(
        self, handler: str, *, timeout_s: float, memory_bytes: int, unsafe: bool = False
    ) -> None:
        if (missing := missing_layers()) and not unsafe:
            names = ", ".join(missing)
            raise UsageError(
                f"this host lacks required sandbox layers: {names}; see `selfdev-engine doctor`, "
                "or give --unsafe-sandbox to run generated code without them"
            )
        self.handler, self.timeout_s, self.memory_bytes = handler, timeout_s, memory_bytes
        self._start()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._children: dict[int, Child] = {}
        self._over: list[Job] = []  # whose child went on with another
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._away_since = time.monotonic()
        cpu_s = int(1.5 * self.timeout_s) + CPU_SLACK_S  # a job's, after half of one's
        words = [str(theirs.fileno()), self.handler, str(self.memory_bytes), str(cpu_s)]
        words.append(",".join(usable_layers()) or "none")
        module = f"{__package__}.zygote"
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-m", module, *words],
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        theirs.close()
        self._ready = False

    def _wait_ready(self) -> None:
        """UsageError where no zygote can start: that is not the program's fault."""
        if self._ready:
            return
        self._control.settimeout(START_S)
        try:
            assert "ready" in self._message()[0]
        except ZygoteLost as lost:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip().splitlines() or [str(lost)]
            raise UsageError(f"the sandbox does not start on this host: {said[-1]}") from None
        self._control.settimeout(None)
        self._ready = True

    def _message(self) -> tuple[dict[str, Any], list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        except OSError as error:
            raise ZygoteLost(str(error)) from None
        if not data:
            raise ZygoteLost("the zygote died")
        return json.loads(data), descriptors

    # ---- running jobs

    def run(self, jobs: Iterable[Job], slots: int = 2) -> Iterator[Job]:
        """Finished jobs, in the order in which they finish; `slots` in flight.

        Where the caller stops listening, the children in flight are ended.
        """
        try:
            yield from self._run(jobs, slots)
        finally:
            self._end_children()

    def _run(self, jobs: Iterable[Job], slots: int) -> Iterator[Job]:
        waiting, retried = iter(jobs), set[int]()
        pending: list[Job] = []
        exhausted = False
        while True:
            while len(self._children) < slots and not exhausted:
                job = pending.pop() if pending else next(waiting, None)
                if job is None:
                    exhausted = True
                    break
                yield from self._guarded(lambda job=job: self._launch(job), pending, retried, job)
            if not self._children and not pending:
                return
            finished = list(self._guarded(self._step, pending, retried))
            exhausted = exhausted and not pending
            yield from finished

    def _guarded(
        self,
        step: Callable[[], list[Job]],
        pending: list[Job],
        retried: set[int],
        launching: Job | None = None,
    ) -> list[Job]:
        """A step; if the zygote dies in it, start another and put the jobs in flight back once."""
        try:
            return step()
        except ZygoteLost:
            flying = [child.job for child in self._children.values()]
            flying += [launching] if launching and launching not in flying else []
            self._forget_children()
            self._restart()
            failed = [job for job in flying if id(job) in retried]
            for job in failed:
                job.result = Rejection("runtime", "the sandbox died twice under this program")
            pending += [job for job in flying if id(job) not in retried]
            retried |= {id(job) for job in flying}
            return failed

    def _launch(self, job: Job) -> list[Job]:
        """Fork a child for the job; jobs that ended meanwhile are returned."""
        self._wait_ready()
        channel, theirs = socket.socketpair()
        channel.setblocking(False)
        finished: list[Job] = []
        descriptors = [theirs.fileno()] + ([] if job.memory_fd is None else [job.memory_fd])
        try:
            socket.send_fds(self._control, [b"f"], descriptors)
        except OSError as error:
            raise ZygoteLost(str(error)) from None
        finally:
            theirs.close()
        while "forked" not in (reply := self._message())[0]:
            finished += self._reap(reply[0])
        now = time.monotonic()
        reuse = now + self.timeout_s / 2
        child = Child(job, channel, reply[1][0], now + self.timeout_s, now, reuse)
        self._children[reply[0]["forked"]] = child
        self._send(child, job.request)
        return finished

    def _step(self) -> list[Job]:
        """Wait for something to happen; jobs that ended."""
        self._stop_clocks()
        live = {c.channel.fileno(): c for c in self._children.values() if c.stage != "dead"}
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        for descriptor, child in live.items():
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if child.unsent else 0))
        wait_s = min((c.deadline - time.monotonic() for c in live.values()), default=1.0)
        events = poll.poll(max(0.0, wait_s) * 1000 + 1)
        self._away_since = time.monotonic()
        finished: list[Job] = []
        for descriptor, event in events:
            if descriptor == self._control.fileno():
                finished += self._reap(self._message()[0])
            elif live[descriptor].stage != "dead":
                self._attend(live[descriptor], event)
        self._stop_clocks()
        for child in live.values():
            self._check_deadline(child)
        over, self._over = self._over, []
        return over + finished

    def _stop_clocks(self) -> None:
        """No child pays for what the engine, or who reads its results, did since the last poll."""
        now = time.monotonic()
        for child in self._children.values():
            away_s = now - max(self._away_since, child.started)
            child.deadline, child.may_follow_until = (
                child.deadline + away_s,
                child.may_follow_until + away_s,
            )
        self._away_since = now

    def _check_deadline(self, child: Child) -> None:
        now = time.monotonic()
        if child.stage == "run" and now > child.deadline:
            child.stage, child.deadline = "traceback", now + TRACEBACK_S
            self._signal(child, signal.SIGUSR1)
        elif child.stage == "traceback" and now > child.deadline:
            self._time_out(child, None)

    def _time_out(self, child: Child, line: int | None) -> None:
        self._finish(child, Rejection("timeout", f"still running after {self.timeout_s:g} s", line))

    # ---- one child

    def _attend(self, child: Child, event: int) -> None:
        if event & select.POLLOUT:
            self._flush(child)
        if event & ~select.POLLOUT:
            self._hear(child)

    def _hear(self, child: Child) -> None:
        try:
            data = child.channel.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it ended or hung up; the zygote says how it ended
            child.stage = "dead"
            self._signal(child, signal.SIGKILL)
            return
        if child.stage == "traceback":
            child.tail += data
            if found := LINE.findall(child.tail):
                self._time_out(child, int(found[0]))
            return
        try:
            for body in child.frames.feed(data):
                self._message_of(child, body)
        except BadFrame as error:
            self._finish(child, Rejection("violation", f"malformed reply: {error}"))

    def _message_of(self, child: Child, body: bytes) -> None:
        if child.stage != "run":
            return
        message = decode(body)
        if isinstance(done := message.get("done"), dict):
            self._done(child, done)
        elif isinstance(question := message.get("ask"), dict):
            self._answer(child, question)
        else:
            raise BadFrame("neither a question nor a reply")

    def _done(self, child: Child, reply: dict[str, Any]) -> None:
        """The next job, if the child may go on; else it is ended at once."""
        now = time.monotonic()
        follow = child.job.follow(reply) if now < child.may_follow_until else None
        if follow is None:
            return self._finish(child, reply)
        child.job.result, child.job.seconds = reply, now - child.started
        self._over.append(child.job)
        child.job, child.started, child.deadline = follow, now, now + self.timeout_s
        child.frames.renew()
        self._send(child, follow.request)

    def _answer(self, child: Child, question: dict[str, Any]) -> None:
        child.job.num_asks += 1
        if child.unsent:
            raise BadFrame("a question before the last answer was read")
        if child.job.num_asks > MAX_ASKS:
            detail = f"more than {MAX_ASKS} questions for values of the weights"
            self._finish(child, Rejection("unsupported", detail))
            return
        began = time.monotonic()
        try:
            reply = child.job.answer(question)
        except Rejected as refused:
            self._finish(child, refused.rejection)
            return
        child.job.answers_s += time.monotonic() - began
        if child.job.answers_s > MAX_ANSWERS_S:
            detail = f"its questions took more than {MAX_ANSWERS_S:g} s to answer: ask for less"
            self._finish(child, Rejection("timeout", detail))
            return
        self._send(child, {"answer": reply})

    def _send(self, child: Child, message: dict[str, Any]) -> None:
        child.unsent += encode(message)
        self._flush(child)

    def _flush(self, child: Child) -> None:
        """As much as the child takes now: one that does not read must not hold the engine."""
        try:
            del child.unsent[: child.channel.send(child.unsent)]
        except BlockingIOError:
            return
        except OSError:  # it hung up: heard of as an end
            child.unsent.clear()

    def _signal(self, child: Child, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, number)

    def _finish(self, child: Child, result: dict[str, Any] | Rejection) -> None:
        if child.job.result is None:
            child.job.result = result
        child.stage = "dead"
        self._signal(child, signal.SIGKILL)

    def _reap(self, message: dict[str, Any]) -> list[Job]:
        child = self._children.pop(message["exited"])
        child.may_follow_until = 0.0
        while child.stage == "run" and self._readable(child):  # what it wrote before it ended
            self._hear(child)
        child.stage = "dead"
        if child.job.result is None:
            child.job.result = how_it_ended(message["status"])
        child.job.seconds = time.monotonic() - child.started
        child.job.cpu_s = message["cpu_s"]
        child.channel.close()
        os.close(child.pidfd)
        return [child.job]

    def _readable(self, child: Child) -> bool:
        return bool(select.select([child.channel], [], [], 0)[0])

    # ---- the end

    def _end_children(self) -> None:
        """Kill and collect what is in flight, so that the next run begins with empty slots."""
        self._over.clear()
        for child in self._children.values():
            child.stage = "dead"
            self._signal(child, signal.SIGKILL)
        try:
            while self._children:
                self._reap(self._message()[0])
        except ZygoteLost:
            self._forget_children()
            self._restart()

    def _forget_children(self) -> None:
        for child in self._children.values():
            child.channel.close()
            os.close(child.pidfd)
        self._children = {}

    def _restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        """End the zygote and all children; one that is still importing is not waited for."""
        self._control.close()
        if not self._ready:
            self._process.kill()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget_children()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
