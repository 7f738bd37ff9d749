"""Random calls of allowed ops, with legal and illegal arguments, through verify, lower and replay.

    python tests/engine/trace/op_fuzz.py --calls 1000000 --processes 2 --backend cpu --share 0.02

A call is a graph of one to three random ops over a few small tensors. The verifier may refuse it, lowering
may say that it has no kernels, and torch may refuse its numbers. Anything else that is raised, a killed
process or a call of more than thirty seconds is a finding, which is printed with its graph. Each call is made
from a number alone: `--first N --calls 1` repeats it. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.plans.fuse import NotFused, fused
from selfdev_engine.engine.trace.allowed import ALLOWED, DRAWS
from selfdev_engine.engine.trace.graph import TraceGraph
from selfdev_engine.engine.trace.replay import TORCH_ERRORS, overload_of, replay
from selfdev_engine.engine.trace.schema import STRINGS
from selfdev_engine.engine.trace.verify import GraphReader
from selfdev_engine.engine.trace.wire import pack_tensor
from selfdev_engine.kernels.errors import BackendError
from selfdev_engine.kernels.tensors import TensorSet

NAMES = ("a", "b", "c")
SHAPES = ((4, 6), (5,), (1, 7), (3, 1), (9, 66))
CALL_S, CHUNK, SPACE_BYTES = 30, 2000, 8 << 30
OPS = sorted(ALLOWED)
DTYPES = "float32 float64 float16 bfloat16 bool uint8 int8 int16 int32 int64 complex64".split()
INTEGERS = (*(0, 1, -1, 2, -2, 3, 4, 5, 7) * 6, 64, 400, 1 << 20, -(1 << 20), 1 << 31, 1 << 40)
HUGE_INTEGERS = (1 << 41, (1 << 63) - 1, -(1 << 63), 1 << 64, 10**400)
FLOATS = (*(0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 0.1) * 3, -0.0, 400.0, 1e-3, 1e-320, 1e38, 1e300)
ODD_FLOATS = (float("inf"), float("-inf"), float("nan"))


def f(x: float) -> dict[str, str]:
    return {"f": x.hex()}


def n(i: int) -> dict[str, int]:
    return {"n": i}


def constant(values: Any, dtype: torch.dtype) -> list[Any]:
    return ["const", [{"c": pack_tensor(torch.tensor(values, dtype=dtype))}], {}, None, None]


def call(op: str, *args: Any, **kwargs: Any) -> list[Any]:
    return [f"aten.{op}", list(args), kwargs, None, None]


def pool(shape: tuple[int, ...]) -> list[Any]:
    """Nodes to choose from: inputs, stacks, empty parts, sorted values, masks, numbers, integers."""
    odd = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40]
    least, i64 = torch.iinfo(torch.int64).min, {"dtype": {"t": "int64"}}
    return [
        *(["input", [name], {}, None, None] for name in NAMES),  # 0, 1, 2
        call("stack.default", [n(0), n(1), n(2)]),  # 3
        call("slice.Tensor", n(3), 0, 3, 9),  # 4: an empty stack
        call("slice.Tensor", n(0), 0, 0, 0),  # 5: no rows
        call("topk.default", n(0), 1, -1),  # 6
        ["item", [n(6), 0], {}, None, None],  # 7
        call("sort.default", n(3), 0),  # 8
        ["item", [n(8), 0], {}, None, None],  # 9
        ["item", [n(8), 1], {}, None, None],  # 10
        call("sum.default", n(0)),  # 11
        call("gt.Scalar", n(0), f(0.0)),  # 12
        call("_to_copy.default", n(0), **i64),  # 13
        call("_to_copy.default", n(0), dtype={"t": "bfloat16"}),  # 14
        call("_to_copy.default", n(0), dtype={"t": "float64"}),  # 15
        call("reshape.default", n(0), [-1]),  # 16
        call("reshape.default", n(0), [1, 1, -1]),  # 17
        call("sort.default", n(16)),  # 18
        ["item", [n(18), 0], {}, None, None],  # 19
        constant(odd, torch.float32),
        constant([least, -1, 0, 1], torch.int64),
        constant([1, 0, 2], torch.int32),
        constant([[1.0, 2.0], [3.0, 4.0]], torch.float32),
        constant([True, False, True], torch.bool),
        constant([-128, -1, 127], torch.int8),
        constant([1 + 2j, 0j], torch.complex64),
        constant([], torch.float32),
        constant(0.25, torch.float32),
    ]


class Generator:
    """Makes the raw nodes of call number `seed`."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.shape = self.r.choice(SHAPES)
        self.later: list[int] = []  # results of the call so far
        self.size = 0  # of the pool

    def nodes(self) -> list[Any]:
        """The nodes of the call, to be added one by one: a node that is refused is left out."""
        return [self.node() for _ in range(self.r.choice((1, 1, 2, 3)))]

    def node(self) -> list[Any]:
        op = self.r.choice(OPS)
        args, kwargs = [], {}
        given = True
        for argument in overload_of(op)._schema.arguments:
            optional = argument.has_default_value()
            if argument.kwarg_only:
                if argument.name in (
                    "layout",
                    "device",
                    "pin_memory",
                    "memory_format",
                    "generator",
                ):
                    continue
                if not optional or self.r.random() < 0.4:
                    kwargs[argument.name] = self.value(str(argument.real_type), argument.name)
            elif given and (not optional or self.r.random() < 0.6):
                args.append(self.value(str(argument.real_type), argument.name))
            else:
                given = False
        if op.split(".")[1] in DRAWS:
            kwargs["draw"] = self.r.randrange(1 << 20)
        return [op, args, kwargs, None, None]

    def value(self, kind: str, name: str) -> Any:
        if self.r.random() < 0.01:
            kind = self.r.choice(
                ("Tensor", "int", "float", "str", "List[int]", "ScalarType", "bool")
            )
        if kind.startswith("Optional["):
            return None if self.r.random() < 0.4 else self.value(kind[9:-1], name)
        if kind.startswith("List["):
            most = 20 if self.r.random() < 0.01 else 4
            return [self.value(kind[5:-1], name) for _ in range(self.r.randrange(most))]
        if kind == "Tensor":
            return self.tensor()
        if kind == "number":
            kind = self.r.choice(("int", "float", "float", "bool"))
        return self.plain(kind, name)

    def plain(self, kind: str, name: str) -> Any:
        r = self.r
        if kind in ("int", "SymInt"):
            if name.startswith("dim"):
                return r.randrange(-3, 3)
            return r.choice(HUGE_INTEGERS if r.random() < 0.02 else INTEGERS)
        if kind == "float":
            return f(r.choice(ODD_FLOATS if r.random() < 0.1 else FLOATS))
        if kind == "ScalarType":
            return {"t": r.choice(DTYPES)}
        if kind == "str":
            return r.choice([*sorted(STRINGS), "\x1b"])
        return r.random() < 0.5

    def tensor(self) -> Any:
        if self.r.random() < 0.02:
            return f(0.5)
        if self.later and self.r.random() < 0.5:
            return n(self.r.choice(self.later))
        return n(self.r.choice((0, 1, 2)) if self.r.random() < 0.4 else self.r.randrange(self.size))


_READERS: dict[tuple[int, ...], GraphReader] = {}


def reader_of(shape: tuple[int, ...]) -> GraphReader:
    """A reader that has verified the pool. Each call gets a copy."""
    if shape not in _READERS:
        reader = GraphReader(NAMES, shape)
        reader.extend(pool(shape))
        _READERS[shape] = reader
    reader = copy.copy(_READERS[shape])
    reader.nodes, reader.metas = list(reader.nodes), list(reader.metas)
    reader.budget, reader.cpu_s = copy.copy(reader.budget), 0.0
    return reader


def inputs_of(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=draw) for name in NAMES}


@dataclass
class Outcome:
    """What became of one call. `fault` is a finding."""

    ended: str  # refused, fused, hybrid or error
    graph: str = ""
    fault: str = ""


def closed(reader: GraphReader, start: int) -> list[TraceGraph]:
    """For each result a program whose outputs are an input times its sum, and the result itself."""
    graphs = []
    for index in range(start, len(reader.nodes)):
        node, meta = reader.nodes[index], reader.metas[index]
        if not isinstance(meta, torch.Tensor):
            continue
        end = copy.copy(reader)
        end.nodes, end.metas = list(reader.nodes), list(reader.metas)
        at = index
        steps = []
        if node.dtype is not torch.float32:
            steps.append(call("_to_copy.default", n(at), dtype={"t": "float32"}))
            at = len(end.nodes)
        steps.append(call("sum.default", n(at)))
        steps.append(call("mul.Tensor", n(0), n(len(end.nodes) + len(steps) - 1)))
        end.extend(steps)
        graphs.append(end.graph([len(end.nodes) - 1, index]))
    return graphs


def attempt(seed: int, backend: Any = None) -> Outcome:
    """Makes call number `seed` and says what became of it."""
    generator = Generator(seed)
    reader = reader_of(generator.shape)
    generator.size = start = len(reader.nodes)
    shown: list[Any] = []
    try:
        for _ in range(generator.r.choice((1, 1, 2, 3))):
            node = generator.node()
            shown.append(node)
            before = len(reader.nodes)
            try:
                reader.extend([node])
            except Rejected:
                del reader.nodes[before:], reader.metas[before:]
                continue
            items(reader, before)
            generator.later = [
                i for i in range(start, len(reader.nodes)) if reader.nodes[i].shape is not None
            ]
        outcome = run(reader, start, backend)
    except Exception:
        outcome = Outcome("error", fault=traceback.format_exc())
    outcome.graph = json.dumps(shown, default=str)[:2000]
    return outcome


def items(reader: GraphReader, index: int) -> None:
    """Takes all results of an op with several."""
    metas = reader.metas[index]
    if isinstance(metas, (list, tuple)):
        reader.extend([["item", [n(index), i], {}, None, None] for i in range(len(metas))])


def run(reader: GraphReader, start: int, backend: Any) -> Outcome:
    """Lowers and replays all results of a call."""
    ended = "refused"
    inputs = inputs_of(reader.shape)
    try:
        graphs = closed(reader, start)
    except Rejected:  # The call has used up its budget.
        return Outcome("refused")
    for graph in graphs:
        plan = fused(replace(graph, outputs=graph.outputs[:1]), "own")
        if isinstance(plan, NotFused) and plan.fault:
            return Outcome("error", fault=plan.fault)
        ended = "hybrid" if isinstance(plan, NotFused) else "fused"
        try:
            value = replay(graph, inputs)[1]
            node = graph.nodes[graph.outputs[1]]
            # The type may differ: shape functions of torch promote a few mixed calls otherwise.
            if tuple(value.shape) != node.shape:
                fault = f"{node.op} is {tuple(value.shape)}, not {node.shape}"
                return Outcome("error", fault=fault)
        except TORCH_ERRORS:
            ended = "torch error"
        if backend is not None and not isinstance(plan, NotFused):
            tensors = TensorSet("t", torch.zeros(reader.shape), inputs)
            try:
                backend.update(plan.kernel, tensors)
            except BackendError:
                ended = "backend error"
    return Outcome(ended)


# ---- many calls in processes that may die --------------------------------------------------------


@dataclass
class Tally:
    ended: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str, str]] = field(default_factory=dict)  # by kind of fault
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, seed: int, outcome: Outcome) -> None:
        self.ended[outcome.ended] += 1
        if outcome.fault:
            kind = kind_of(outcome.fault)
            self.counts[kind] += 1
            self.findings.setdefault(kind, (seed, outcome.graph, outcome.fault))


def kind_of(fault: str) -> str:
    """The last line of a traceback and the place that it names."""
    lines = fault.strip().split("\n")
    places = [line.strip() for line in lines if line.strip().startswith("File ")]
    place = places[-1].split("/")[-1] if places else ""
    return f"{lines[-1][:160]} | {place}"


def chunk(first: int, count: int, share: float, name: str, memory: mmap.mmap, out: int) -> None:
    """The child: makes calls, and notes in shared memory which one it is at."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (SPACE_BYTES, SPACE_BYTES))
    backend = None
    if share:
        from selfdev_engine.kernels.backends import get_backend

        backend = get_backend(name)
    with os.fdopen(out, "w") as file:
        for seed in range(first, first + count):
            memory[:8] = struct.pack("<q", seed)
            signal.alarm(CALL_S)
            outcome = attempt(seed, backend if seed % 1000 < 1000 * share else None)
            signal.alarm(0)
            file.write(
                json.dumps(
                    [seed, outcome.ended, outcome.graph if outcome.fault else "", outcome.fault]
                )
                + "\n"
            )


def watched(first: int, count: int, share: float, backend: str, tally: Tally) -> None:
    """Runs a chunk in a child. If it dies, that is a finding, and another one goes on behind it."""
    while count > 0:
        memory = mmap.mmap(-1, 8)
        readable, writable = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(readable)
            code = 1
            try:
                chunk(first, count, share, backend, memory, writable)
                code = 0
            finally:
                os._exit(code)
        os.close(writable)
        done = 0
        with os.fdopen(readable) as file:
            for line in file:
                if line.endswith("\n"):
                    seed, ended, graph, fault = json.loads(line)
                    tally.add(seed, Outcome(ended, graph, fault))
                    done = seed - first + 1
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return
        (seed,) = struct.unpack("<q", memory[:8])
        generator = Generator(seed)
        generator.size = len(pool(generator.shape))
        number = status & 127
        word = signal.Signals(number).name if number else f"exit {status >> 8}"
        tally.add(
            seed,
            Outcome(
                "died", f"first op {generator.r and first_op(seed)}", f"{word} {first_op(seed)}"
            ),
        )
        lost = max(0, seed - first - done)
        tally.ended["lost in a pipe"] += lost
        count -= seed - first + 1
        first = seed + 1


def first_op(seed: int) -> str:
    generator = Generator(seed)
    generator.size = len(pool(generator.shape))
    count = generator.r.choice((1, 1, 2, 3))
    return " ".join(str(generator.node()) for _ in range(count))[:1500]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument(
        "--share", type=float, default=0.0, help="of the calls that a backend runs too"
    )
    chosen = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    for seed in OPS:  # warm the caches before the forks
        overload_of(seed)
    for shape in SHAPES:
        reader_of(shape)
    for first in range(chosen.first, chosen.first + chosen.calls, CHUNK):
        count = min(CHUNK, chosen.first + chosen.calls - first)
        watched(first, count, chosen.share, chosen.backend, tally)
    for kind, (seed, graph, fault) in tally.findings.items():
        print(f"--- {tally.counts[kind]} times: {kind}\ncall {seed}: {graph}\n{fault}")
    summary = {
        "calls": chosen.calls,
        "seconds": round(time.monotonic() - began, 1),
        "ended": dict(tally.ended),
        "findings": dict(tally.counts),
    }
    print(json.dumps(summary))
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
