"""A child of the zygote, seen from the driver: the job in flight, its clock, its value questions."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from dataclasses import dataclass, field

from ...kernels.compiler.clock import limited
from ..errors import Rejected, Rejection
from .job import Job
from .mailbox import Mailbox
from .protocol import MAX_ASKS, BadFrame, Json, decode, how_it_ended

MAX_ANSWERS_S = 30.0  # the driver's own time for one trace's value questions
TOO_LONG = f"its questions took more than {MAX_ANSWERS_S:g} s to answer: ask for less"
TRACEBACK_S = 0.05  # between SIGUSR1, which asks for the line, and SIGKILL
MAX_TAIL_BYTES = 64 << 10  # read of a late child, in search of its line
LINE = re.compile(rb'"<program>", line (\d{1,6}) in')
MAX_LINE_BYTES = 32  # more than LINE ever matches


@dataclass(eq=False)
class Child:
    """A process that works on one job after another.

    After half of a job's time it is given no other job. Its limit on CPU time is that of one job
    and a half, so that each of its jobs has the time of one.
    """

    job: Job
    mail: Mailbox
    pidfd: int
    timeout_s: float
    over: list[Job]  # the sandbox's list of jobs that ended while their child went on
    started: float = field(default_factory=time.monotonic)  # when the job started, not the process
    deadline: float = field(init=False)
    may_follow_until: float = field(init=False)
    stage: str = "run"  # or "traceback" when it is late, or "dead"
    tail: bytearray = field(default_factory=bytearray)  # what it wrote since SIGUSR1

    def __post_init__(self) -> None:
        self.deadline = self.started + self.timeout_s
        self.may_follow_until = self.started + self.timeout_s / 2

    # ---- its clock

    def pause(self, since: float, now: float) -> None:
        """Does not count the time in which the driver did not listen, unless the child is late."""
        if self.stage != "run":
            return
        away_s = now - max(since, self.started)
        self.deadline += away_s
        self.may_follow_until += away_s

    def check_deadline(self) -> None:
        """Asks a late child for its line, and soon after kills it."""
        now = time.monotonic()
        if self.stage == "run" and now > self.deadline:
            self.stage, self.deadline = "traceback", now + TRACEBACK_S
            self._signal(signal.SIGUSR1)
        elif self.stage == "traceback" and now > self.deadline:
            self._time_out(None)

    def _time_out(self, line: int | None) -> None:
        self._finish(Rejection("timeout", f"still running after {self.timeout_s:g} s", line))

    # ---- what it says

    def attend(self, event: int) -> None:
        """Sends or receives, as the poll event allows."""
        if event & select.POLLOUT:
            self.mail.flush()
        if event & ~select.POLLOUT:
            self._hear()

    def _hear(self) -> None:
        data = self.mail.receive()
        if data is None:
            return
        if not data:  # It ended or hung up. The zygote will report how it ended.
            self.kill()
        elif self.stage == "traceback":
            self._look_for_line(data)
        else:
            self._read(data)

    def _look_for_line(self, data: bytes) -> None:
        """Ends a late child once its line is found, or once it has written too much without one."""
        since = max(0, len(self.tail) - MAX_LINE_BYTES)
        self.tail += data
        if found := LINE.search(self.tail, since):
            self._time_out(int(found[1]))
        elif len(self.tail) > MAX_TAIL_BYTES:
            self._time_out(None)

    def _read(self, data: bytes) -> None:
        try:
            for body in self.mail.frames.feed(data):
                if self.stage == "run":
                    self._handle(decode(body))
        except (BadFrame, RecursionError) as error:
            self._finish(Rejection("violation", f"malformed reply: {error}"))

    def _handle(self, message: Json) -> None:
        if isinstance(done := message.get("done"), dict):
            self._done(done)
        elif isinstance(question := message.get("ask"), dict):
            self._answer(question)
        else:
            raise BadFrame("neither a question nor a reply")

    def _done(self, reply: Json) -> None:
        """Gives the child its next job, or ends it at once."""
        now = time.monotonic()
        follow = self.job.follow(reply) if now < self.may_follow_until else None
        if follow is None:
            return self._finish(reply)
        self.job.result, self.job.seconds = reply, now - self.started
        self.over.append(self.job)
        self.job, self.started, self.deadline = follow, now, now + self.timeout_s
        self.mail.frames.renew()
        self.mail.send(follow.request)

    def _answer(self, question: Json) -> None:
        self.job.num_asks += 1
        if self.mail.unsent:
            raise BadFrame("a question before the last answer was read")
        if self.job.num_asks > MAX_ASKS:
            detail = f"more than {MAX_ASKS} questions for values of the weights"
            return self._finish(Rejection("unsupported", detail))
        began = time.monotonic()
        try:
            with limited(TOO_LONG, wall_s=MAX_ANSWERS_S - self.job.answers_s):
                answer = self.job.answer(question)
        except Rejected as refused:
            return self._finish(refused.rejection)
        self.job.answers_s += time.monotonic() - began
        if self.job.answers_s > MAX_ANSWERS_S:
            return self._finish(Rejection("timeout", TOO_LONG))
        self.mail.send({"answer": answer})

    # ---- its end

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        self.stage = "dead"
        self._signal(signal.SIGKILL)

    def _finish(self, result: Json | Rejection) -> None:
        if self.job.result is None:
            self.job.result = result
        self.kill()

    def collected(self, status: int, cpu_s: float) -> Job:
        """The job in flight when the process ended, with its result."""
        self.may_follow_until = 0.0
        # What it wrote before it ended counts.
        while self.stage == "run" and self.mail.is_readable():
            self._hear()
        self.stage = "dead"
        if self.job.result is None:
            self.job.result = how_it_ended(status)
        self.job.seconds, self.job.cpu_s = time.monotonic() - self.started, cpu_s
        self.close()
        return self.job

    def close(self) -> None:
        self.mail.channel.close()
        os.close(self.pidfd)
