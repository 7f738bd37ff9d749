"""From a program to a verified graph: the driver's side of tracing.

with Tracer(TraceSettings()) as tracer:
    traced = tracer.trace(program, ["a", "b"], (4096, 14336), seed=0, tensor_name="w", answer=...)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from ..errors import Rejection
from ..program import Program
from ..sandbox.box import Sandbox
from ..sandbox.job import Job
from ..sandbox.protocol import reply_rejection
from .conversation import (
    Answer,
    Conversation,
    Trace,
    TraceRequest,
    request_of,
)
from .settings import TraceSettings, open_sandbox


class Tracer:
    """Traces programs in a sandbox. It closes the sandbox only if it opened it."""

    def __init__(self, settings: TraceSettings, sandbox: Sandbox | None = None) -> None:
        self.settings = settings
        self._owns = sandbox is None
        self.sandbox = sandbox or open_sandbox(settings)

    def trace(
        self,
        program: Program,
        names: Sequence[str],
        shape: Sequence[int],
        *,
        seed: int,
        tensor_name: str,
        answer: Answer | None,
    ) -> Trace | Rejection:
        """The program's graph for a tensor of this shape, or its rejection."""
        job = TraceRequest(program, tuple(names), tuple(shape), seed, tensor_name, answer)
        ((_, result),) = self.trace_many([job])
        return result

    def trace_many(
        self, jobs: Iterable[TraceRequest]
    ) -> Iterator[tuple[TraceRequest, Trace | Rejection]]:
        """Yields results as they finish, with `settings.slots` traces in flight."""
        for done in self.sandbox.run((self._job(job) for job in jobs), self.settings.slots):
            job, conversation = done.tag
            yield job, conversation.result(done)

    def trace_in_turn(self, jobs: Sequence[TraceRequest]) -> list[Trace | Rejection]:
        """Traces one program for several tensors. The list ends with the first rejection.

        Mostly one child traces them all, because a fork costs more than a trace.
        """
        found: list[Trace | Rejection] = []
        while len(found) < len(jobs):
            for done in self.sandbox.run([self._job(*jobs[len(found) :])], 1):
                _, conversation = done.tag
                found.append(conversation.result(done))
                if isinstance(found[-1], Rejection):
                    return found
        return found

    def _job(self, job: TraceRequest, *others: TraceRequest) -> Job:
        conversation = Conversation(job)

        def follow(reply: dict[str, Any]) -> Job | None:
            return self._job(*others) if others and not reply_rejection(reply) else None

        tag, request = (job, conversation), request_of(job) | {"more": bool(others)}
        return Job(request, conversation.answer, tag=tag, follow=follow)

    def close(self) -> None:
        if self._owns:
            self.sandbox.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
