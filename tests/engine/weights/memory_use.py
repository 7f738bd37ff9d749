"""What a driver's survey or a worker's swaps take of memory beside Python and the model.

    python memory_use.py ROLE SMALL MODELS BUDGET    (BUDGET: "null", or bytes of the bank)

SMALL and MODELS are folders of base, a, b and c. All is done with the small ones first, which brings
in the code. Prints how far resident memory rose after that (touched pages of a mapping count), and
the results.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from selfdev_engine.engine.plans.plan import Fused, Plan
from selfdev_engine.engine.plans.survey import Surveyor
from selfdev_engine.engine.resident.engine import LiveEngine
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.resident.model import Model
from selfdev_engine.engine.resident.placement import Placement, Segment
from selfdev_engine.engine.resident.worker import Worker
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.selection import Selection
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical
from selfdev_engine.kernels.ir import Builder, Op, Space

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class StillEngine(LiveEngine):
    """Live tensors that answer nothing."""

    name = "still"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.live = {name: checkpoint.tensor(name) for name in checkpoint.names}

    decoding = ""

    def placement(self, parts: Any) -> Placement:
        segments = {}
        for name, tensor in self.live.items():
            shape, stride = tuple(tensor.shape), tuple(tensor.stride())
            segments[name] = (Segment(name, name, shape, stride, 0, stride, 0),)
        return Placement(segments, self.live)

    def generate(self, *words: Any, **more: Any) -> list[Any]:
        raise AssertionError("nobody asks")

    def reset(self) -> None:
        return None


def plans(names: tuple[str, ...]) -> list[Plan]:
    """A weighted sum, and one that needs a norm and a median of each tensor."""
    made = []
    for scale in (0.4, None):
        b = Builder()
        x, y, z = (b.input(name) for name in "abc")
        factor = (
            b.const(scale)
            if scale
            else b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, y), space=Space.SCALAR)
        )
        median = b.add(Op.KTH, b.add(Op.ABS, z), attrs=(1000,), space=Space.SCALAR)
        kept = b.add(Op.MUL, z, b.const(0.3) if scale else median)
        graph = canonical(b.graph(b.add(Op.ADD, b.add(Op.MUL, x, factor), b.add(Op.MAX, y, kept))))
        made.append(Plan(dict.fromkeys(names, Fused(graph)), str(scale)))
    return made


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def peak_bytes() -> int:
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) << 10


def survey(folder: str, budget: int | None) -> Callable[[], list[Any]]:
    """Each plan's norm, sketch and linear equivalent."""

    def run() -> list[Any]:
        bank = Bank.within(Selection.open(f"{folder}/base", experts_of(folder), "mlp"), budget)
        surveyor = Surveyor(bank, get_backend("cpu"))
        found = [surveyor.survey(plan) for plan in plans(bank.selection.names)]
        return [[s.norm, *s.sketch, *s.linear.coefficients, s.linear.residual] for s in found]

    return run


def swaps(folder: str, budget: int | None) -> Callable[[], list[Any]]:
    """Each plan's fingerprint of the live weights, and the first one's again."""
    checkpoint = Checkpoint.open(f"{folder}/base")
    worker = Worker(cast(Any, None), EngineSettings(apply_limit_s=600.0))
    worker.models["target"] = Model(StillEngine(checkpoint), checkpoint)

    def run() -> list[Any]:
        worker.open_bank(
            "target", f"{folder}/base", experts_of(folder), "mlp", "cpu", memory_bytes=budget
        )
        first, second = plans(worker.banks["target"].bank.selection.names)
        applied = [worker.apply("target", p.to_bytes()) for p in (first, second, first)]
        return [one["weights_fingerprint"] for one in applied]

    return run


def experts_of(folder: str) -> dict[str, str]:
    return {name: f"{folder}/{name}" for name in "abc"}


def main() -> None:
    role, small, models, limit = sys.argv[1:]
    torch.set_num_threads(1)
    prepare = survey if role == "driver" else swaps
    prepare(small, None)()
    run = prepare(models, json.loads(limit))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident_bytes()
    results = run()
    print(json.dumps({"rise": peak_bytes() - before, "results": results}))


if __name__ == "__main__":
    main()
