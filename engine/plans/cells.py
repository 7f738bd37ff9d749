"""What torch alone can compute of a candidate: it runs on real tensors in a locked child, never here.

A cell sees the tensors of one bank, mapped for reading, and serves one candidate. Its answers are
believed no more than the program itself: they are numbers of a known shape, or a rejection.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...kernels.tensors import TensorSet
from ..errors import Rejected, Rejection, UsageError, printable
from ..sandbox.box import Sandbox
from ..sandbox.cell import Cell, MappedFiles
from ..sandbox.child import MAX_ANSWERS_S
from ..sandbox.protocol import Json, Map, reply_rejection
from ..trace.arguments import constant
from ..trace.bounds import MAX_INT, MAX_RANK, graph_work
from ..trace.conversation import rejection_of
from ..trace.draws import seed_text
from ..trace.graph import TraceGraph
from ..trace.packing import pack
from ..trace.tracer import Tracer
from ..trace.wire import DTYPES
from ..weights.headers import Entry
from ..weights.machine import host_bytes
from ..weights.selection import Selection
from .plan import Eager, Hybrid

FLOAT32_BYTES = 4
# A cell may take this many times the bytes of its tensor's task vectors, and at least LEAST_BYTES.
MEMORY_FACTOR, LEAST_BYTES = 24, 512 << 20
# Descriptors that one message may carry, less the channel and the window.
MAX_FILES = 250


@dataclass(frozen=True)
class TensorFiles:
    """Where one tensor of the base and of every expert lies on disk."""

    base: Entry
    experts: Mapping[str, Entry]

    @property
    def update_bytes(self) -> int:
        """The bytes of a float32 update."""
        return FLOAT32_BYTES * math.prod(self.base.shape)

    @property
    def memory_bytes(self) -> int:
        """What a cell may take to compute on this tensor."""
        return max(LEAST_BYTES, MEMORY_FACTOR * len(self.experts) * self.update_bytes)


def parts_of(selection: Selection) -> dict[str, TensorFiles]:
    """Return where each selected tensor lies, by name."""
    return {
        name: TensorFiles(
            selection.base.entries[name],
            {expert: model.entries[name] for expert, model in selection.experts.items()},
        )
        for name in selection.names
    }


def parts_in_memory(tensors: TensorSet, descriptor: int) -> TensorFiles:
    """Write float32 tensors one after another into an open file, and return where they are."""
    file, entries = Path(f"/proc/self/fd/{descriptor}"), dict[str, Entry]()
    for name, tensor in {"base": tensors.base, **tensors.experts}.items():
        data, start = tensor.numpy().tobytes(), os.fstat(descriptor).st_size
        os.pwrite(descriptor, data, start)
        entries[name] = Entry(file, "float32", tuple(tensor.shape), start, len(data))
    return TensorFiles(entries.pop("base"), entries)


class TensorCell:
    """Computes on the tensors of a bank for one candidate; `Cells.open` makes it."""

    def __init__(
        self,
        cell: Cell,
        parts: Mapping[str, TensorFiles],
        spots: Mapping[Entry, tuple[int, int]],
        window: int,
    ) -> None:
        self._cell, self._parts, self._spots, self._window = cell, parts, spots, window
        self._latest: TraceGraph | None = None

    @property
    def is_lost(self) -> bool:
        """Whether its zygote was replaced; a trace that is tried again needs another cell."""
        return self._cell.is_lost

    def answer(self, name: str, question: TraceGraph) -> list[Tensor]:
        """Return the values of a question's outputs, or meta tensors where a size is not known.

        Raises Rejected, and RuntimeError with torch's words where torch refuses the numbers.
        """
        nodes = [question.nodes[output] for output in question.outputs]
        sized = all(node.shape is not None for node in nodes)
        reply = self._call("values" if sized else "sizes", name, question)
        if isinstance(reply, Rejection):
            raise Rejected(reply)
        if "error" in reply:
            raise RuntimeError(printable(reply["error"]))
        if not sized:
            return sizes_in(reply)
        return values_in(reply, [(node.shape, node.dtype) for node in nodes])

    def update(self, name: str, plan: Hybrid | Eager) -> Rejection | None:
        """Compute a tensor's update; it lies in the window then."""
        if isinstance(plan, Hybrid):
            reply = self._call("update", name, plan.trace)
            if isinstance(reply, Rejection) and reply.kind == "timeout":
                work = f"{graph_work(plan.trace):.0e} scalar operations on it by estimate"
                return Rejection(reply.kind, f"{reply.detail}: {work}", reply.line)
            if isinstance(reply, dict) and "error" in reply:
                return Rejection("runtime", f"{name}: {printable(reply['error'])}")
        else:
            reply = self._by_function(name, plan)
        return reply if isinstance(reply, Rejection) else None

    def copy_update(self, name: str, file: int, offset: int) -> None:
        """Copy the update in the window to an open file. What the cell writes later changes nothing."""
        left, at = self._parts[name].update_bytes, 0
        os.lseek(file, offset, os.SEEK_SET)
        while at < left:
            at += os.sendfile(file, self._window, at, left - at)

    def _by_function(self, name: str, plan: Eager) -> Json | Rejection:
        request: Json = {
            "do": "function",
            "code": plan.program.code,
            "params": dict(plan.program.params),
            "seed": seed_text(plan.seed, name),
            "shape": list(self._parts[name].base.shape),
        }
        reply = self._ask(request, name)
        return rejection_of(reply, plan.program) or reply

    def _call(self, what: str, name: str, graph: TraceGraph) -> Json | Rejection:
        """Ask for something of a graph, which is sent unless the last call was about the same."""
        packed = None if graph is self._latest else pack(graph)
        self._latest = graph
        request: Json = {"do": what, "graph": packed, "shape": list(graph.shape)}
        reply = self._ask(request, name)
        if isinstance(reply, Rejection):
            return Rejection(reply.kind, f"{name}: {reply.detail}")
        return reply_rejection(reply) or reply

    def _ask(self, request: Json, name: str) -> Json | Rejection:
        """Call the cell about one tensor. UsageError where one of its files was cut off meanwhile."""
        parts = self._parts[name]
        entries = (parts.base, *parts.experts.values())
        places = {"names": list(parts.experts), "parts": [self._spot(entry) for entry in entries]}
        reply = self._cell.call({**request, **places})
        for entry in entries:
            # Beyond a file's end a map reads zeros, or ends the cell: no program is to blame.
            if entry.file.stat().st_size < entry.start + entry.size_bytes:
                raise UsageError(f"{entry.file}: cut off while it was read")
        return reply

    def _spot(self, entry: Entry) -> list[object]:
        number, skipped = self._spots.get(entry, (0, 0))
        return [number, skipped, entry.dtype, math.prod(entry.shape)]


@dataclass(frozen=True)
class Cells:
    """Opens cells that see the tensors of one bank. Planner and Updates use it.

    `question_s` and `update_s` are what the questions and the updates of one candidate may take, in
    seconds. `memory_bytes` is divided among cells that are open at once.
    """

    sandbox: Sandbox
    parts: Mapping[str, TensorFiles]
    memory_bytes: int
    question_s: float
    update_s: float

    @staticmethod
    def of(selection: Selection, tracer: Tracer, memory_bytes: int | None) -> Cells:
        """Make the cells of a bank's tensors. Without `memory_bytes` they share half of what is free."""
        return Cells.on(parts_of(selection), tracer, memory_bytes or available_bytes() // 2)

    @staticmethod
    def on(
        parts: Mapping[str, TensorFiles], tracer: Tracer, memory_bytes: int = LEAST_BYTES
    ) -> Cells:
        """Make cells for these tensors, with the tracer's sandbox and limits."""
        limit_s = tracer.settings.replay_limit_s
        return Cells(tracer.sandbox, parts, max(LEAST_BYTES, memory_bytes), MAX_ANSWERS_S, limit_s)

    @contextmanager
    def open(self, names: Sequence[str], limit_s: float) -> Iterator[TensorCell]:
        """Yield a cell for these tensors, and end it afterwards. Raises ZygoteLost."""
        parts = {name: self.parts[name] for name in names}
        with ExitStack() as stack:
            window = os.memfd_create("update")
            stack.callback(os.close, window)
            os.ftruncate(window, max((p.update_bytes for p in parts.values()), default=0))
            files, spots = mapped_files(parts, window, stack)
            memory_bytes = min(self.memory_bytes, self.most_bytes(names))
            cell = stack.enter_context(self.sandbox.cell(memory_bytes, limit_s, files))
            yield TensorCell(cell, parts, spots, window)

    def most_bytes(self, names: Sequence[str]) -> int:
        """Return what a cell for these tensors may take."""
        return max((self.parts[name].memory_bytes for name in names), default=LEAST_BYTES)

    def num_at_once(self, names: Sequence[str], num_cores: int) -> int:
        """Return how many cells for these tensors fit into the memory, at most one a core."""
        fitting = self.memory_bytes // max(1, self.most_bytes(names))
        return max(1, min(fitting, num_cores, len(names)))


def available_bytes() -> int:
    """Return the memory that the machine can still give, in bytes; no more than its container may take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (free,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return min(int(free) << 10, host_bytes())


def mapped_files(
    parts: Mapping[str, TensorFiles], window: int, stack: ExitStack
) -> tuple[MappedFiles, dict[Entry, tuple[int, int]]]:
    """Open the files, and return what a cell maps of them: each tensor's pages, then the window.

    Also returns the number of each tensor's map, and the bytes before the tensor in it.
    """
    entries = [e for p in parts.values() for e in (p.base, *p.experts.values()) if e.size_bytes]
    paths = list(dict.fromkeys(entry.file for entry in entries))
    if len(paths) > MAX_FILES:
        raise UsageError(
            f"the models have {len(paths)} weight files; at most {MAX_FILES} work here"
        )
    descriptors = [opened(path, stack) for path in paths]
    numbers = {path: number for number, path in enumerate(paths)}
    maps, spots = list[Map](), dict[Entry, tuple[int, int]]()
    for entry in dict.fromkeys(entries):
        skipped = entry.start % mmap.ALLOCATIONGRANULARITY
        spots[entry] = len(maps), skipped
        start, size = entry.start - skipped, entry.size_bytes + skipped
        maps.append(Map(numbers[entry.file], start, size))
    if size := os.fstat(window).st_size:
        maps.append(Map(len(paths), 0, size, shared=True))
    return MappedFiles([*descriptors, window], maps), spots


def opened(path: Path, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


def values_in(
    reply: Json, wanted: Sequence[tuple[tuple[int, ...] | None, torch.dtype | None]]
) -> list[Tensor]:
    """Return the tensors of a cell's reply. Raises Rejected unless they are as the graph says."""
    packed = reply.get("values")
    if not isinstance(packed, list) or len(packed) != len(wanted):
        raise false_reply()
    return [value_in(one, *known) for one, known in zip(packed, wanted, strict=True)]


def value_in(packed: Any, shape: tuple[int, ...] | None, dtype: torch.dtype | None) -> Tensor:
    """Return one tensor of a reply. Raises Rejected."""
    try:
        value = constant(packed)
    except (KeyError, TypeError):
        raise false_reply() from None
    if (tuple(value.shape), value.dtype) != (shape, dtype):
        raise false_reply()
    return value


def sizes_in(reply: Json) -> list[Tensor]:
    """Return meta tensors of the sizes in a cell's reply. Raises Rejected."""
    sizes = reply.get("sizes")
    if not isinstance(sizes, list) or not sizes:
        raise false_reply()
    return [meta_of(one) for one in sizes]


def meta_of(size: object) -> Tensor:
    """Return a meta tensor of [shape, dtype]. Raises Rejected."""
    match size:
        case [list(shape), str(name)] if len(shape) <= MAX_RANK and name in DTYPES:
            known = all(type(n) is int and 0 <= n <= MAX_INT for n in shape)
            if known and math.prod(shape) <= MAX_INT:
                # Torch refuses strides that overflow.
                with suppress(RuntimeError):
                    return torch.empty(shape, dtype=getattr(torch, name), device="meta")
    raise false_reply()


def false_reply() -> Rejected:
    return Rejected(Rejection("violation", "a false reply about the program's values"))
