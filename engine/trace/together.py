"""Traces of several programs side by side, each program for one tensor after another.

A program's work is a generator: it yields the tensors that it wants traces for, and is sent the traces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Generic, TypeVar

from ..errors import Rejection
from ..sandbox.job import Job
from ..sandbox.protocol import reply_rejection
from .conversation import Conversation, Trace, TraceRequest, request_of

T = TypeVar("T")
Traces = list[Trace | Rejection]
Work = Generator[Sequence[TraceRequest], Traces, T]


class Queue(deque[Job]):
    """Jobs that wait. As an iterator it goes on when something was put there after its end."""

    def __iter__(self) -> Queue:
        return self

    def __next__(self) -> Job:
        if not self:
            raise StopIteration
        return self.popleft()


class Chain(Generic[T]):
    """One work on its way: what it waits for, and what was found of that.

    Mostly one child traces all that a work yields at a time, because a fork costs more than a trace.
    """

    result: T

    def __init__(self, work: Work[T], queue: Queue) -> None:
        self.work, self.queue, self.is_over = work, queue, False
        self._wanted: Sequence[TraceRequest] = ()
        self._found: Traces = []
        self._num_begun = 0
        self._latest: Conversation | None = None
        self._go_on(None)

    def _go_on(self, found: Traces | None) -> None:
        """Send the work what it waits for, and begin what it wants next."""
        try:
            # A generator is begun by sending it None, which its type does not say.
            self._wanted = self.work.send(found)  # type: ignore[arg-type]
        except StopIteration as end:
            self.result, self.is_over = end.value, True
            return
        self._found, self._num_begun = [], 0
        if self._wanted:
            self.queue.append(self._job(0))
        else:
            self._go_on([])

    def _job(self, number: int) -> Job:
        wanted, self._num_begun = self._wanted, number + 1
        conversation, has_more = (
            Conversation(wanted[number], self._latest),
            number + 1 < len(wanted),
        )
        self._latest = conversation

        def follow(reply: dict[str, Any]) -> Job | None:
            return self._job(number + 1) if has_more and not reply_rejection(reply) else None

        foretold = conversation.foretold.to_json()
        request = request_of(wanted[number]) | {"more": has_more, "foretold": foretold}
        tag = (self, wanted, conversation)
        return Job(request, conversation.answer, tag, follow, conversation.forget)

    def take(self, wanted: Sequence[TraceRequest], result: Trace | Rejection) -> None:
        """Take the result of a job; of one that was begun for an earlier wish there is no use."""
        if wanted is not self._wanted or self.is_over:
            return
        self._found.append(result)
        if isinstance(result, Rejection) or len(self._found) == len(wanted):
            self._go_on(self._found)
        elif self._num_begun == len(self._found):
            # The child had used its time: another one goes on.
            self.queue.append(self._job(self._num_begun))
