"""Random plans as a worker reads them: damaged data, and kernel graphs that no compiler writes.

    python tests/engine/plans/plan_fuzz.py --first 0 --calls 100000 --share 0.1 --record FILE

A call reads one plan. It may be refused with a ValueError; or it is a plan, whose stages are then made, and
for a share of the calls run on a small tensor, where a BackendError is allowed and every number. Anything else
that is raised, more than 64 MiB, a killed process or a call of more than thirty seconds is a finding. The
graphs are mostly legal and have one or two faults: ranks above the count, slots of later stages, wrong spaces
and numbers of arguments, arguments that are no earlier nodes, huge constants and ranges.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import traceback
import tracemalloc
from pathlib import Path
from typing import Any

import torch
from selfdev_engine.engine.plans.plan import Fused, Plan
from selfdev_engine.kernels.errors import BackendError
from selfdev_engine.kernels.ir import ELEMENTWISE, LEAVES, REDUCTIONS, Op, Space, join
from selfdev_engine.kernels.tensors import TensorSet
from selfdev_engine.kernels.verify import REDUCED, arity

sys.path.append(str(Path(__file__).parents[2]))
from fuzzing import Fuzz, Outcome, report

MAX_BYTES = 64 << 20
SHAPES = ((4, 6), (5,), (1, 7), (3, 1), (33, 70), (1, 1))
ODD: tuple[Any, ...] = (
    *(None, True, "", "\ud800", "x" * 999, [], {}, [[]], {"f": "nan"}, {"f": 1}, {"f": "0x1p9999"}),
    *(0, -1, 1, 7, 2**31, 2**62, -(2**63), 10**400, 0.5, 1e308, [0] * 999, {"f": "-inf"}),
)
COUNTS = (1, 1, 2, 3, 4, 24, 25, 99, 2**31 - 1, 2**31, 2**40, 2**62 - 1, 2**62, 0, -1)
NUMBERS = (0.5, -1.0, 0.0, -0.0, 1e-45, 3e38, 1e300, float("inf"), float("-inf"), float("nan"))


class Graphs:
    """Makes the nodes of a random graph. `fault` is how often something is wrong."""

    def __init__(self, r: random.Random, fault: float) -> None:
        self.r, self.fault = r, fault
        self.nodes: list[Any] = []

    def wrong(self) -> bool:
        return self.r.random() < self.fault

    def leaf(self, op: Op) -> list[Any]:
        r = self.r
        vector = r.choice(("row", "col"))
        attrs: dict[Op, list[Any]] = {
            Op.INPUT: [
                r.choice("abc") if not self.wrong() else r.choice(("d", "", "\x1b", "a" * 999))
            ],
            Op.CONST: [{"f": r.choice(NUMBERS).hex()}],
            Op.INDEX: [],
            Op.RANDOM: [r.choice(("normal", "uniform")), r.choice((0, 9, 2**56)), r.randrange(3)],
            Op.IN_RANGE: [
                r.choice((0, 1, 5)),
                r.choice((5, 6, *COUNTS)),
                r.choice((1, 2, *COUNTS)),
            ],
            Op.PARAM: [r.choice((0, 3, 2**61))],
        }
        spaces = {Op.INPUT: "full", Op.CONST: "scalar", Op.INDEX: vector, Op.RANDOM: "full"}
        space = spaces.get(op, r.choice(("row", "col", "full", "scalar")))
        return [op.value, [], attrs[op], space]

    def reduction(self) -> list[Any]:
        r, op = self.r, self.r.choice(sorted(REDUCTIONS))
        read = r.randrange(len(self.nodes))
        spaces = sorted(REDUCED[Space(self.nodes[read][3])]) or [Space.SCALAR]
        attrs = [r.choice(COUNTS)] if op is Op.KTH else []
        return [op.value, [read], attrs, r.choice(spaces).value]

    def elementwise(self) -> list[Any]:
        r, op = self.r, self.r.choice(sorted(ELEMENTWISE))
        args = [r.randrange(len(self.nodes)) for _ in range(arity(op))]
        return [op.value, args, [], join(*(Space(self.nodes[a][3]) for a in args)).value]

    def node(self) -> list[Any]:
        kind = self.r.random()
        made = self.elementwise() if kind < 0.6 else self.reduction()
        made = self.leaf(self.r.choice(sorted(LEAVES - {Op.PARAM}))) if kind > 0.85 else made
        return self.spoilt(made) if self.wrong() else made

    def spoilt(self, node: list[Any]) -> list[Any]:
        r, at = self.r, len(self.nodes)
        op, args, attrs, space = node
        return r.choice(
            (
                [op, args[1:], attrs, space],
                [op, [*args, 0], attrs, space],
                [op, [at for _ in args], attrs, space],
                [op, [at + 1, *args[1:]], attrs, space],
                [op, [-1 for _ in args], attrs, space],
                [op, args, [r.choice(ODD)], space],
                [op, args, attrs, r.choice([s.value for s in Space])],
                [r.choice(sorted(Op)).value, args, attrs, space],
                self.leaf(Op.PARAM),
            )
        )

    def graph(self) -> dict[str, Any]:
        self.nodes = [self.leaf(op) for op in (Op.INPUT, Op.CONST, Op.INPUT)]
        for _ in range(self.r.choice((1, 3, 9, 20))):
            self.nodes.append(self.node())
        last = len(self.nodes) - 1
        outputs = [last] if not self.wrong() else self.r.choice(([last, 0], [last + 1], [-1], []))
        return {"nodes": self.nodes, "outputs": outputs}


def sound(r: random.Random, fault: float = 0.03) -> dict[str, Any]:
    """A plan whose graph is mostly legal."""
    plans = [{"tier": "fused", "graph": Graphs(r, fault).graph(), "view": "own"}]
    return {"plans": plans, "tensors": {"w": 0}, "fingerprint": "0"}


def damaged(r: random.Random, x: Any) -> Any:
    """The data with one part replaced, removed or doubled."""
    if r.random() < 0.15 or not isinstance(x, (dict, list)) or not x:
        return r.choice(ODD)
    keys = list(x) if isinstance(x, dict) else list(range(len(x)))
    key = r.choice(keys)
    copy = dict(x) if isinstance(x, dict) else list(x)
    if r.random() < 0.1:
        del copy[key]
        return copy
    copy[key] = damaged(r, x[key])
    return copy


def attempt(seed: int, backend: Any = None) -> Outcome:
    """Makes call number `seed`: reads a plan, makes its stages, and runs them if there is a backend."""
    r = random.Random(seed)
    data = sound(r)
    data = damaged(r, data) if r.random() < 0.3 else data
    raw = json.dumps(data).encode()
    tracemalloc.reset_peak()
    try:
        outcome = Outcome(read_and_run(raw, r, backend))
        outcome.swept = outcome.ended in ("run", "backend error")
    except Exception:
        outcome = Outcome("error", fault=traceback.format_exc())
    if tracemalloc.is_tracing() and tracemalloc.get_traced_memory()[1] > MAX_BYTES:
        outcome = Outcome("memory", fault=f"{tracemalloc.get_traced_memory()[1] >> 20} MiB")
    outcome.graph = raw.decode()[:2000]
    return outcome


def read_and_run(raw: bytes, r: random.Random, backend: Any) -> str:
    try:
        plan = Plan.from_bytes(raw)
    except ValueError:
        return "refused"
    for one in plan.tensors.values():
        assert isinstance(one, Fused)
        assert one.kernel.stages
        if backend is not None:
            shape = r.choice(SHAPES)
            vectors = {name: torch.randn(shape) for name in "abc"}
            try:
                backend.update(one.kernel, TensorSet("w", torch.zeros(shape), vectors))
            except BackendError:
                return "backend error"
            return "run"
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--share", type=float, default=0.0, help="of the calls that are run too")
    parser.add_argument("--record", type=Path, help="add the summary to this file")
    chosen = parser.parse_args()
    fuzz = Fuzz(attempt, chosen.first, chosen.calls, chosen.share, chosen.backend)
    return report("random kernel graphs", fuzz, chosen.record)


if __name__ == "__main__":
    sys.exit(main())
