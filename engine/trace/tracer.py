"""From a program to a verified graph: the engine's side of tracing.

with Tracer(TraceSettings()) as tracer:
    traced = tracer.trace(program, ["a", "b"], (4096, 14336), seed=0, tensor_name="w", answer=...)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.backend import BackendError
from ..errors import Rejection
from ..program import Program
from ..sandbox.box import AnswerError, Job, Sandbox
from ..sandbox.protocol import BadFrame, printable, reply_rejection
from .draws import draw_keys, seed_text
from .graph import TraceGraph
from .recorder import MAX_ANSWER_ELEMENTS
from .replay import TORCH_ERRORS, first_line
from .settings import TraceSettings, open_sandbox
from .verify import GraphFault, GraphReader
from .wire import pack_tensor

__all__ = ["TraceJob", "TraceSettings", "Traced", "Tracer"]

Answer = Callable[[TraceGraph], list[Tensor]]
MAX_DRAWS = 1000  # in one trace, that are keyed here


@dataclass(frozen=True)
class Traced:
    """What a program does. `view` is "flat" where only the 1-D reading works; the graph is flat then.

    `draw_keys`: the keys of its draws where they follow from the tensor's name alone (draws.py)."""

    graph: TraceGraph
    num_asks: int
    output: str  # what it printed, cut and escaped
    view: str
    seconds: float
    cpu_s: float  # of the child
    draw_keys: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TraceJob:
    """One program for one tensor. `answer` gives the values of a question's outputs, on the CPU."""

    program: Program
    names: tuple[str, ...]
    shape: tuple[int, ...]
    seed: int
    tensor_name: str
    answer: Answer | None = None
    tag: Any = None


class Tracer:
    """Traces in a sandbox: one that is given stays open, one that it opens ends with it."""

    def __init__(self, settings: TraceSettings, sandbox: Sandbox | None = None) -> None:
        self.settings = settings
        self._owns = sandbox is None
        self._sandbox = sandbox or open_sandbox(settings)

    def trace(
        self,
        program: Program,
        names: Sequence[str],
        shape: Sequence[int],
        *,
        seed: int,
        tensor_name: str,
        answer: Answer | None,
    ) -> Traced | Rejection:
        """The program's graph for a tensor of this shape, or why there is none."""
        job = TraceJob(program, tuple(names), tuple(shape), seed, tensor_name, answer)
        ((_, result),) = self.trace_many([job])
        return result

    def trace_many(self, jobs: Iterable[TraceJob]) -> Iterator[tuple[TraceJob, Traced | Rejection]]:
        """Results as they finish, `settings.slots` in flight."""
        for done in self._sandbox.run((self._job(job) for job in jobs), self.settings.slots):
            job, conversation = done.tag
            yield job, conversation.result(done)

    def trace_in_turn(self, jobs: Sequence[TraceJob]) -> list[Traced | Rejection]:
        """One program for several tensors, mostly in one child: a fork costs more than a trace.

        Ends with the first rejection.
        """
        found: list[Traced | Rejection] = []
        while len(found) < len(jobs):
            for done in self._sandbox.run([self._job(*jobs[len(found) :])], 1):
                _, conversation = done.tag
                found.append(conversation.result(done))
                if isinstance(found[-1], Rejection):
                    return found
        return found

    def _job(self, job: TraceJob, *others: TraceJob) -> Job:
        conversation = Conversation(job)

        def follow(reply: dict[str, Any]) -> Job | None:
            return self._job(*others) if others and not reply_rejection(reply) else None

        tag, request = (job, conversation), request_of(job) | {"more": bool(others)}
        return Job(request, conversation.answer, tag=tag, follow=follow)

    def run_eager(
        self, program: Program, vectors: Mapping[str, Tensor], *, seed: int, tensor_name: str
    ) -> Tensor | Rejection:
        """The function on real tensors, inside the sandbox; float32, of the vectors' shape."""
        shape = tuple(next(iter(vectors.values())).shape)
        job = TraceJob(program, tuple(vectors), shape, seed, tensor_name)
        data = [v.float().contiguous().numpy().tobytes() for v in vectors.values()]
        descriptor = os.memfd_create("task-vectors")
        try:
            os.ftruncate(descriptor, sum(map(len, data)) + len(data[0]))
            for i, block in enumerate(data):
                os.pwrite(descriptor, block, i * len(block))
            (done,) = self._sandbox.run(
                [Job(request_of(job), refuse_question, memory_fd=descriptor)], 1
            )
            if rejection := rejection_of(done, program):
                return rejection
            size = len(data[0])
            raw = os.pread(descriptor, size, len(data) * size)  # the child is dead by now
        finally:
            os.close(descriptor)
        return torch.from_numpy(np.frombuffer(raw, np.float32).copy()).reshape(shape)

    def close(self) -> None:
        if self._owns:
            self._sandbox.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Conversation:
    """Verifies what one child says, as it comes, and answers its questions."""

    def __init__(self, job: TraceJob) -> None:
        self.job = job
        self.reader: GraphReader | None = None
        self.first_shape = job.shape

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(self._reader(question.get("shape")), question)
        except GraphFault as fault:
            raise AnswerError(fault.rejection) from None
        except BackendError:
            raise
        except TORCH_ERRORS as error:  # eager raises it too: the program may catch it
            text = first_line(error)
            if "can't allocate memory" in text:
                raise AnswerError(Rejection("memory", text)) from None
            return {"error": text}

    def _reader(self, shape: Any) -> GraphReader:
        """The nodes so far in this view: the tensor's own shape, or the flat one after it."""
        own, flat = self.job.shape, (int(np.prod(self.job.shape)),)
        if shape not in (list(own), list(flat)):
            raise GraphFault("violation", f"malformed graph: inputs of shape {str(shape)[:80]}")
        wanted = own if shape == list(own) else flat
        if self.reader is None or self.reader.shape != wanted:
            if self.reader is not None and wanted == own:
                raise GraphFault("violation", "malformed graph: from the flat view back to its own")
            self.reader = GraphReader(self.job.names, wanted)
        return self.reader

    def _answer(self, reader: GraphReader, question: dict[str, Any]) -> dict[str, Any]:
        reader.extend(question.get("nodes"))
        if self.job.answer is None:
            raise GraphFault(
                "unsupported", "a value of the weights was asked for, and there are none"
            )
        if "sizes" in question:
            return self._sizes(reader, question["sizes"])
        outputs = question.get("outputs")
        if not isinstance(outputs, list) or not 0 < len(outputs) <= MAX_ANSWER_ELEMENTS:
            raise GraphFault("violation", "malformed question")
        graph = reader.graph(outputs)
        check_answerable(graph)
        return {"values": [pack_tensor(value) for value in self.job.answer(graph)]}

    def _sizes(self, reader: GraphReader, index: Any) -> dict[str, Any]:
        if reader.metas[reader.graph([index]).outputs[0]] is not None:
            raise GraphFault("violation", "malformed question: that size is known")
        assert self.job.answer is not None
        if (counted := reader.mask_count(index)) is not None:
            (count,) = self.job.answer(counted)
            results = reader.chosen(index, int(count))
        else:
            results = self.job.answer(reader.graph([index]))
        reader.set_sizes(index, results)
        dtypes = [str(r.dtype).removeprefix("torch.") for r in results]
        return {"sizes": [[list(r.shape), d] for r, d in zip(results, dtypes, strict=True)]}

    def result(self, done: Job) -> Traced | Rejection:
        if rejection := rejection_of(done, self.job.program):
            return rejection
        reply = done.result
        assert isinstance(reply, dict)
        try:
            graph = self._final(reply)
        except GraphFault as fault:
            return fault.rejection
        view = "own" if graph.shape == self.job.shape else "flat"
        printed = printable(reply.get("printed", ""))
        keys = self._draw_keys(reply, graph)
        return Traced(graph, done.num_asks, printed, view, done.seconds, done.cpu_s, keys)

    def _draw_keys(self, reply: dict[str, Any], graph: TraceGraph) -> tuple[int, ...] | None:
        """() where nothing was drawn, None where what was drawn is of this tensor alone."""
        count, used = (
            reply.get("draws"),
            {n.kwargs["draw"] for n in graph.nodes if "draw" in n.kwargs},
        )
        if reply.get("drew_otherwise") is not False or not isinstance(count, int):
            return None
        if not 0 <= count <= MAX_DRAWS:  # a child may say anything
            return None
        keys = draw_keys(seed_text(self.job.seed, self.job.tensor_name), count)
        return tuple(keys) if used <= set(keys) else None

    def _final(self, reply: dict[str, Any]) -> TraceGraph:
        reader = self._reader(reply.get("shape"))
        reader.extend(reply.get("nodes"))
        graph = reader.graph([reply.get("result")])
        node = graph.nodes[graph.outputs[0]]
        if node.shape != graph.shape or node.dtype is None or not node.dtype.is_floating_point:
            raise GraphFault("shape", f"the result is {node.dtype} {node.shape}, not {graph.shape}")
        return graph


def check_answerable(graph: TraceGraph) -> None:
    """All of a question's numbers together fit into an answer."""
    total = 0
    for output in graph.outputs:
        node = graph.nodes[output]
        total += MAX_ANSWER_ELEMENTS + 1 if node.shape is None else int(np.prod(node.shape))
        if total > MAX_ANSWER_ELEMENTS:
            what = f"a question for {node.op} {node.shape}"
            limit = f"more than {MAX_ANSWER_ELEMENTS} numbers in one answer"
            raise GraphFault("violation", f"{what}: {limit}")


def request_of(job: TraceJob) -> dict[str, Any]:
    return {
        "code": job.program.code,
        "params": dict(job.program.params),
        "names": list(job.names),
        "shape": list(job.shape),
        "seed": seed_text(job.seed, job.tensor_name),
    }


def rejection_of(done: Job, program: Program) -> Rejection | None:
    """Why a job gave nothing, its line as a line of the program's text."""
    rejection = done.result if isinstance(done.result, Rejection) else None
    if isinstance(done.result, dict):
        rejection = reply_rejection(done.result)
    if rejection is None:
        return None
    return replace(rejection, line=program.line_of(rejection.line))


def refuse_question(question: dict[str, Any]) -> dict[str, Any]:
    raise BadFrame("a question in the eager tier")
