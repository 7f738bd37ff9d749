"""Verifies one child's value questions and its result, and answers the questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ...kernels.compiler.clock import OutOfTime
from ...kernels.errors import BackendError
from ..errors import Rejected, Rejection, first_line, printable
from ..program import Program
from ..sandbox.job import Job
from ..sandbox.protocol import OUTPUT_CHARACTERS, Json, reply_rejection
from .arguments import malformed
from .bounds import MAX_ANSWER_ELEMENTS, MAX_DRAWS
from .draws import draw_keys, seed_text
from .foretold import Asked, Foretold, Known
from .graph import TraceGraph
from .program_clock import ProgramClock
from .replay import TORCH_ERRORS
from .verify import GraphReader
from .wire import dtype_name, pack_tensor

Answer = Callable[[TraceGraph], list[Tensor]]


@dataclass(frozen=True)
class Trace:
    """What a program does to one tensor.

    `view` is "own", or "flat" if the program works only on the tensor as a vector; the graph is
    then of that vector. `draw_keys` are the keys of its random draws if they follow from the
    tensor's name alone (draws.py), else None.
    """

    graph: TraceGraph
    num_asks: int
    output: str  # printed text, cut and escaped
    view: str
    seconds: float
    cpu_s: float  # used by the child
    draw_keys: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TraceRequest:
    """One program for one tensor. `answer` computes the outputs of a value question, on the CPU.

    All tensors of a program have its `clock`.
    """

    program: Program
    names: tuple[str, ...]
    shape: tuple[int, ...]
    seed: int
    tensor_name: str
    answer: Answer | None = None
    # The outputs of a question where they are known without reading a weight.
    known: Known = lambda question: None
    tag: Any = None
    clock: ProgramClock = field(default_factory=ProgramClock, compare=False, repr=False)


class Conversation:
    """Verifies what one child says, as it comes, and answers its questions.

    `before` is the conversation about another tensor, whose questions are foretold.
    """

    def __init__(self, job: TraceRequest, before: Conversation | None = None) -> None:
        self.job = job
        self.reader: GraphReader | None = None
        self._begin()
        same = before is not None and before.job.shape == job.shape
        # A child that used all that was foretold has said so at its end, which is read after this.
        past = (before.asked or before.foretold.asked) if before and same else ()
        self.foretold = Foretold.of(past, job.known)
        job.clock.begin_tensor(4 * math.prod(job.shape) * len(job.names))

    def forget(self) -> None:
        """Forget what the child said: another one begins the same trace."""
        self.reader = None
        self._begin()

    def _begin(self) -> None:
        # The questions so far, while they are the same for another tensor, and how many were foretold.
        self.asked, self.num_foretold = list[Asked](), 0
        self._has_asked, self._all_plain = False, True

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to one value question. Raises Rejected, which ends the child.

        An error that torch raises on the numbers is an answer too: in eager torch the program
        would get it, and may catch it.
        """
        try:
            with self.job.clock.running():
                self._use_foretold(question.get("used", 0))
                self._has_asked = True
                return self._answer(self._reader(question.get("shape")), question)
        except OutOfTime as error:
            raise Rejected(Rejection("timeout", str(error))) from None
        except BackendError:
            raise
        except TORCH_ERRORS as error:
            text = first_line(error)
            if "can't allocate memory" in text:
                raise Rejected(Rejection("memory", text)) from None
            return {"error": text}

    def _reader(self, shape: Any) -> GraphReader:
        """The reader for this shape: first the tensor's own, later perhaps the flat one."""
        own, flat = self.job.shape, (math.prod(self.job.shape),)
        if shape not in (list(own), list(flat)):
            raise malformed(f"inputs of shape {str(shape)[:80]}")
        wanted = own if shape == list(own) else flat
        if self.reader is None or self.reader.shape != wanted:
            if self.reader is not None and wanted == own:
                raise malformed("from the flat view back to its own")
            spent_s = self.reader.cpu_s if self.reader else 0.0
            self.reader = GraphReader(self.job.names, wanted, own)
            self.reader.cpu_s = spent_s
        return self.reader

    def _answer(self, reader: GraphReader, question: dict[str, Any]) -> dict[str, Any]:
        reader.extend(question.get("nodes"))
        if self.job.answer is None:
            detail = "a value of the weights was asked for, and there are none"
            raise Rejected(Rejection("unsupported", detail))
        if "sizes" in question:
            self._all_plain = False
            return self._sizes(reader, question["sizes"])
        outputs = question.get("outputs")
        if not isinstance(outputs, list) or not 0 < len(outputs) <= MAX_ANSWER_ELEMENTS:
            raise Rejected(Rejection("violation", "malformed question"))
        graph = reader.graph(outputs)
        check_answerable(graph)
        values = self.job.answer(graph)
        self._note(reader, question, graph, values)
        return {"values": [pack_tensor(value) for value in values]}

    def _use_foretold(self, claim: Any) -> None:
        """Take the questions that the child had answers to as if it had asked them here."""
        for place in self.foretold.used(claim, self.num_foretold, self._has_asked):
            one, values = self.foretold.asked[place], self.foretold.answers[place]
            reader = self._reader(one.raw["shape"])
            reader.extend(one.raw["nodes"])
            self._note(reader, one.raw, one.graph, values)
            self.num_foretold += 1

    def _note(
        self,
        reader: GraphReader,
        question: dict[str, Any],
        graph: TraceGraph,
        values: list[Tensor],
    ) -> None:
        """Remember an answer, and the question where it is the same for another tensor."""
        self._all_plain = self._all_plain and reader.is_plain
        if self._all_plain:
            self.asked.append(Asked.of(question, graph))
        reader.answered.tell(reader.nodes, question["outputs"], values)

    def _sizes(self, reader: GraphReader, index: Any) -> dict[str, Any]:
        if reader.metas[reader.graph([index]).outputs[0]] is not None:
            raise Rejected(Rejection("violation", "malformed question: that size is known"))
        assert self.job.answer is not None
        with closed():
            counted = reader.mask_count(index)
        values = self.job.answer(counted or reader.graph([index]))
        with closed():
            results = reader.chosen(index, int(values[0])) if counted else values
            reader.set_sizes(index, results)
        return {"sizes": [[list(r.shape), dtype_name(r.dtype)] for r in results]}

    def result(self, done: Job) -> Trace | Rejection:
        if rejection := rejection_of(done.result, self.job.program):
            return rejection
        reply = done.result
        assert isinstance(reply, dict)
        try:
            with self.job.clock.running():
                graph = self._final(reply)
        except OutOfTime as error:
            return Rejection("timeout", str(error))
        except Rejected as refused:
            return refused.rejection
        except RecursionError:
            return Rejection("violation", "malformed graph: it nests too deeply")
        printed = printable(reply.get("printed", ""), OUTPUT_CHARACTERS)
        keys = self._draw_keys(reply, graph)
        asks = done.num_asks + self.num_foretold
        return Trace(graph, asks, printed, graph.view, done.seconds, done.cpu_s, keys)

    def _draw_keys(self, reply: dict[str, Any], graph: TraceGraph) -> tuple[int, ...] | None:
        """The keys of all draws, or None if a number was drawn that holds for this tensor only."""
        count = reply.get("draws")
        used = {n.kwargs["draw"] for n in graph.nodes if "draw" in n.kwargs}
        if reply.get("drew_otherwise") is not False or not isinstance(count, int):
            return None
        if not 0 <= count <= MAX_DRAWS:
            return None
        keys = draw_keys(seed_text(self.job.seed, self.job.tensor_name), count)
        return tuple(keys) if used <= set(keys) else None

    def _final(self, reply: dict[str, Any]) -> TraceGraph:
        self._use_foretold(reply.get("used", 0))
        reader = self._reader(reply.get("shape"))
        reader.extend(reply.get("nodes"))
        graph = reader.graph([reply.get("result")])
        check_result(graph)
        return graph


@contextmanager
def closed() -> Iterator[None]:
    """Turn whatever a child's words make the verifier raise into a rejection of them."""
    try:
        yield
    except (Rejected, OutOfTime):
        raise
    except Exception as error:
        raise malformed(f"{type(error).__name__}: {first_line(error)}") from None


def check_result(graph: TraceGraph) -> None:
    """Raises Rejected unless the output is an update of the inputs' shape."""
    node = graph.nodes[graph.outputs[0]]
    if node.shape != graph.shape or node.dtype is None or not node.dtype.is_floating_point:
        detail = f"the result is {node.dtype} {node.shape}, not {graph.shape}"
        raise Rejected(Rejection("shape", detail))


def check_answerable(graph: TraceGraph) -> None:
    """Raises Rejected unless all numbers of a question fit into one answer."""
    total = 0
    for output in graph.outputs:
        node = graph.nodes[output]
        total += MAX_ANSWER_ELEMENTS + 1 if node.shape is None else math.prod(node.shape)
        if total > MAX_ANSWER_ELEMENTS:
            what = f"a question for {node.op} {node.shape}"
            limit = f"more than {MAX_ANSWER_ELEMENTS} numbers in one answer"
            raise Rejected(Rejection("violation", f"{what}: {limit}"))


def request_of(job: TraceRequest) -> Json:
    return {
        "code": job.program.code,
        "params": dict(job.program.params),
        "names": list(job.names),
        "shape": list(job.shape),
        "seed": seed_text(job.seed, job.tensor_name),
    }


def rejection_of(result: Json | Rejection | None, program: Program) -> Rejection | None:
    """Why a child gave no result, or None. The line is one of the program's text."""
    rejection = reply_rejection(result) if isinstance(result, dict) else result
    if rejection is None:
        return None
    return replace(rejection, line=program.line_of(rejection.line))
