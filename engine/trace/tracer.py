"""From a program to a verified graph: the driver's side of tracing.

with Tracer(TraceSettings()) as tracer:
    traced = tracer.trace(program, ["a", "b"], (4096, 14336), seed=0, tensor_name="w", answer=...)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

from ..errors import Rejection
from ..program import Program
from ..sandbox.box import Sandbox
from ..sandbox.job import Job
from .conversation import (
    Answer,
    Conversation,
    Trace,
    TraceRequest,
    request_of,
)
from .program_clock import ProgramClock
from .settings import TraceSettings, open_sandbox
from .together import Chain, Queue, T, Traces, Work


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
        clock: ProgramClock | None = None,
    ) -> Trace | Rejection:
        """The program's graph for a tensor of this shape, or its rejection."""
        own = clock or ProgramClock()
        job = TraceRequest(
            program, tuple(names), tuple(shape), seed, tensor_name, answer, clock=own
        )
        ((_, result),) = self.trace_many([job])
        return result

    def trace_many(
        self, jobs: Iterable[TraceRequest]
    ) -> Iterator[tuple[TraceRequest, Trace | Rejection]]:
        """Yields results as they finish, with `settings.slots` traces in flight."""
        for done in self.sandbox.run((self._job(job) for job in jobs), self.settings.slots):
            job, conversation = done.tag
            yield job, conversation.result(done)

    def trace_in_turn(self, jobs: Sequence[TraceRequest]) -> Traces:
        """Traces one program for several tensors. The list ends with the first rejection."""

        def work() -> Work[Traces]:
            return (yield jobs)

        (found,) = self.trace_together([work()])
        return found

    def trace_together(self, works: Sequence[Work[T]]) -> list[T]:
        """Traces several programs, `settings.slots` at a time; returns what their works return.

        A work yields tensors to trace its program for, and is sent what `trace_in_turn` returns for them.
        """
        queue = Queue()
        try:
            chains = [Chain(work, queue) for work in works]
            for done in self.sandbox.run(queue, self.settings.slots):
                chain, wanted, conversation = done.tag
                chain.take(wanted, conversation.result(done))
                if all(chain.is_over for chain in chains):
                    break
            return [chain.result for chain in chains]
        finally:
            for work in works:
                work.close()

    def _job(self, job: TraceRequest) -> Job:
        conversation = Conversation(job)
        tag, forget = (job, conversation), conversation.forget
        return Job(request_of(job), conversation.answer, tag, forget=forget)

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
