"""Random calls of allowed ops, with legal and illegal arguments, through verify, lower and replay.

    python tests/engine/trace/op_fuzz.py --first 0 --calls 100000 --caged --share 0.1 --record FILE

A program is a graph of one to three random calls over a few small tensors. The verifier may refuse a call,
lowering may say that it has no kernels, and torch, in a locked child, may refuse its numbers or end with its
child. Anything else that is raised, a killed process or a program of more than a minute is a finding, which is
printed with its graph. Each program is made from a number alone: `--first N --calls 1` repeats it. The last
line is one JSON object; --record adds it to the file of a run that is made in pieces.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.plans.answers import answer_question
from selfdev_engine.engine.plans.fuse import NotFused, fused
from selfdev_engine.engine.trace.allowed import ALLOWED, DRAWS
from selfdev_engine.engine.trace.graph import TraceGraph
from selfdev_engine.engine.trace.ops import use_native_shapes
from selfdev_engine.engine.trace.replay import TORCH_ERRORS, overload_of, replay
from selfdev_engine.engine.trace.schema import STRINGS
from selfdev_engine.engine.trace.verify import GraphReader
from selfdev_engine.engine.trace.wire import pack_tensor
from selfdev_engine.kernels.errors import BackendError
from selfdev_engine.kernels.tensors import TensorSet

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
from cage import Cage, can_be_asked
from fuzzing import Fuzz, Outcome, report
from legal_calls import TENSORS, legal_call

NAMES = ("a", "b", "c")
SHAPES = ((4, 6), (5,), (1, 7), (3, 1), (9, 66))
OPS = sorted(ALLOWED)
ZEROS = {shape: torch.zeros(shape) for shape in SHAPES}
NEVER = ("layout", "device", "pin_memory", "memory_format", "generator")
DTYPES = "float32 float64 float16 bfloat16 bool uint8 int8 int16 int32 int64 complex64".split()
INTEGERS = (*(0, 1, -1, 2, -2, 3, 4, 5, 7) * 6, 64, 400, 1 << 20, -(1 << 20), 1 << 31, 1 << 40)
HUGE_INTEGERS = (1 << 41, (1 << 63) - 1, -(1 << 63), 1 << 64, 10**400)
FLOATS = (*(0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 0.1) * 3, -0.0, 400.0, 1e-3, 1e-320, 1e38, 1e300)
ODD_FLOATS = (float("inf"), float("-inf"), float("nan"))


def f(x: float) -> dict[str, str]:
    return {"f": x.hex()}


def n(i: int) -> dict[str, int]:
    return {"n": i}


def constant(values: Any, dtype: torch.dtype, shape: Any = None) -> list[Any]:
    x = torch.tensor(values, dtype=dtype)
    packed = pack_tensor(x if shape is None else x.reshape(shape))
    return ["const", [{"c": packed}], {}, None, None]


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
        constant([[[[[0.5, -2.0]]], [[[3.0, 0.0]]]]], torch.float32),
        constant([], torch.float32, (2, 0, 3, 1)),
        constant([], torch.int64, (0,)),
        constant([1.5, float("nan")], torch.float64),
        constant([65504.0, -0.0], torch.float16),
        constant([1j, 2.0], torch.complex128),
        constant([255, 0], torch.uint8),
        *(constant(x.tolist(), x.dtype, x.shape) for x in TENSORS.values()),
    ]


class Generator:
    """Makes the raw nodes of call number `seed`."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.shape = self.r.choice(SHAPES)
        self.later: list[int] = []  # results of the call so far
        self.size = 0  # of the pool

    def node(self, op: str | None = None) -> list[Any]:
        """A random call, of this op if one is given."""
        op = op or self.r.choice(OPS)
        number, first = self.r.randrange(9), self.size - len(TENSORS)
        legal = legal_call(op, number, first) if self.r.random() < 0.6 else None
        args, kwargs = self.near(op, *legal) if legal else self.any_arguments(op)
        if op.split(".")[1] in DRAWS:
            kwargs["draw"] = self.r.randrange(1 << 20)
        return [op, args, kwargs, None, None]

    def near(self, op: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """A legal call with an argument or two changed, added or left out."""
        change = self.r.choice((0.0, 0.15, 0.3))
        for i, argument in enumerate(overload_of(op)._schema.arguments):
            kind, name = str(argument.real_type), argument.name
            if argument.kwarg_only or self.r.random() >= change or name in NEVER:
                continue
            if i < len(args):
                args[i] = self.value(kind, name)
            elif i == len(args):
                args.append(self.value(kind, name))
        if self.r.random() < 0.03:
            args = args[:-1]
        for argument in overload_of(op)._schema.arguments:
            wanted = argument.kwarg_only and argument.name not in NEVER
            if wanted and self.r.random() < change:
                kwargs[argument.name] = self.value(str(argument.real_type), argument.name)
        return args, kwargs

    def any_arguments(self, op: str) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = [], {}
        given = True
        for argument in overload_of(op)._schema.arguments:
            optional = argument.has_default_value()
            if argument.kwarg_only:
                if argument.name in NEVER:
                    continue
                if not optional or self.r.random() < 0.4:
                    kwargs[argument.name] = self.value(str(argument.real_type), argument.name)
            elif given and (not optional or self.r.random() < 0.6):
                args.append(self.value(str(argument.real_type), argument.name))
            else:
                given = False
        return args, kwargs

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


@cache
def inputs_of(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=draw) for name in NAMES}


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


class Attempt:
    """Makes one call after another. With `caged`, torch runs in a locked child, else here."""

    def __init__(self, caged: bool) -> None:
        self._caged, self._cage = caged, None

    @property
    def cage(self) -> Cage | None:
        """The locked child, started at the first call: the fuzzer forks before it."""
        if self._caged and self._cage is None:
            self._cage = Cage({shape: inputs_of(shape) for shape in SHAPES})
        return self._cage

    def __call__(self, seed: int, backend: Any = None) -> Outcome:
        """Makes program number `seed` and says what became of it."""
        generator = Generator(seed)
        reader = reader_of(generator.shape)
        generator.size = start = len(reader.nodes)
        shown: list[Any] = []
        taken: list[str] = []
        try:
            for _ in range(generator.r.choice((1, 2, 3, 4))):
                node = generator.node()
                shown.append(node)
                if is_taken(reader, node):
                    taken.append(node[0])
                generator.later = [
                    i for i in range(start, len(reader.nodes)) if reader.nodes[i].shape is not None
                ]
            outcome = run(reader, start, backend, self.cage)
        except Exception:
            outcome = Outcome("error", fault=traceback.format_exc())
        outcome.graph = json.dumps([generator.shape, shown], default=str)[:2000]
        outcome.calls, outcome.taken = len(shown), taken
        return outcome


def is_taken(reader: GraphReader, node: list[Any]) -> bool:
    """Adds a node and all its results, or leaves it out where the verifier refuses it."""
    before = len(reader.nodes)
    try:
        reader.extend([node])
        items(reader, before)
    except Rejected:
        del reader.nodes[before:], reader.metas[before:]
        return False
    return True


def items(reader: GraphReader, index: int) -> None:
    """Takes all results of an op with several."""
    metas = reader.metas[index]
    if isinstance(metas, (list, tuple)):
        reader.extend([["item", [n(index), i], {}, None, None] for i in range(len(metas))])


def run(reader: GraphReader, start: int, backend: Any, cage: Cage | None = None) -> Outcome:
    """Lowers and replays all results of a call. The outcome is that of the last."""
    try:
        graphs = closed(reader, start)
    except Rejected:  # The call has used up its budget.
        return Outcome("refused")
    inputs, outcome = inputs_of(reader.shape), Outcome("refused")
    for graph in graphs:
        plan = fused(replace(graph, outputs=graph.outputs[:1]), "own")
        if isinstance(plan, NotFused) and plan.fault:
            return Outcome("error", fault=plan.fault)
        outcome = replayed(graph, plan, inputs, cage)
        if outcome.fault:
            return outcome
        if backend is not None and swept(
            graph, plan, TensorSet("t", ZEROS[reader.shape], inputs), backend
        ):
            outcome.swept = True
    return outcome


def replayed(
    graph: TraceGraph, plan: Any, inputs: dict[str, torch.Tensor], cage: Cage | None
) -> Outcome:
    """Lets torch compute the result itself, or the update."""
    tier = "hybrid" if isinstance(plan, NotFused) else "fused"
    update, value = (replace(graph, outputs=(output,)) for output in graph.outputs)
    try:
        if cage is None:
            found = tuple(replay(value, inputs)[0].shape)
            # The type may differ: shape functions of torch promote a few mixed calls otherwise.
            if found != (wanted := graph.nodes[graph.outputs[1]].shape):
                return Outcome(
                    "error", fault=f"{graph.nodes[value.outputs[0]].op} is {found}, not {wanted}"
                )
            return Outcome(tier)
        if can_be_asked(value) and (tier == "fused" or len(graph.nodes) % 2):
            cage.answer(value)
        else:
            cage.update(update)
    except TORCH_ERRORS:
        return Outcome("torch error")
    except Rejected as refused:
        why = refused.rejection
        return Outcome(
            f"{why.kind} in the cell", fault=why.detail if why.kind == "violation" else ""
        )
    return Outcome(tier)


def swept(graph: TraceGraph, plan: Any, tensors: TensorSet, backend: Any) -> bool:
    """Lets a backend compute the update and the result's sum, where there are kernels."""
    if isinstance(plan, NotFused):
        return False
    question = replace(graph, outputs=(graph.outputs[0] - 1,))
    with suppress(BackendError):
        backend.update(plan.kernel, tensors)
        answer_question(question, tensors, backend, {}, lambda question: [], raise_fault)
    return True


def raise_fault(fault: str) -> None:
    raise AssertionError(fault)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument(
        "--share", type=float, default=0.0, help="of the calls that a backend runs too"
    )
    parser.add_argument(
        "--native",
        action="store_true",
        help="torch's C++ shape functions, as in a child and in merge",
    )
    parser.add_argument(
        "--caged", action="store_true", help="torch runs in a locked child, as in the product"
    )
    parser.add_argument("--record", type=Path, help="add the summary to this file")
    chosen = parser.parse_args()
    if chosen.native:
        use_native_shapes()
    for op in OPS:  # warm the caches before the forks
        overload_of(op)
    for shape in SHAPES:
        reader_of(shape)
    fuzz = Fuzz(Attempt(chosen.caged), chosen.first, chosen.calls, chosen.share, chosen.backend)
    shapes = "native" if chosen.native else "Python"
    said = {"shapes": shapes, "caged": chosen.caged}
    return report("random calls of allowed ops", fuzz, chosen.record, OPS, **said)


if __name__ == "__main__":
    sys.exit(main())
