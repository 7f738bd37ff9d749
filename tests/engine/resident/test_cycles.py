"""Hundreds of swap and score cycles in one live engine: no growth, no drift, the base at the end."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from selfdev_engine.engine.plans.cells import Cells
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.plans.updates import Updates
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.resident.ask import evaluate
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.tasks.load import load_task
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint
from selfdev_engine.kernels.backends import get_backend

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BODY = "import torch\ndef merge_models(d, device):\n    a, b, c = d.values()\n    return {}\n"
PROGRAMS = (
    "0.4 * a + 0.3 * b + 0.2 * c",
    "3 * torch.where(a.abs() > b.abs(), a, b) - 2 * c",
    "a * a.norm(dim=1, keepdim=True) + b.median() * c.sign()",
    "torch.linalg.svd(a, full_matrices=False)[1].max() * b",  # hybrid: torch, in a locked child
)
CYCLES, WARM_UP = 300, 60
MOST_GROWTH_BYTES = 16 << 20  # of 240 cycles; one merged tensor kept of each would be 60 MB


def private_bytes(pid: int) -> int:
    """Anonymous memory: neither mapped files nor what is shared with others."""
    gc.collect()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found) << 10


@pytest.fixture
def plans(zoo, tmp_path) -> list[Plan]:
    experts = {name: str(path) for name, path in zoo.experts.items()}
    bank = Bank.open(str(zoo.base), experts, "mlp", hold=True)
    with Tracer(TraceSettings()) as tracer:
        planner = Planner(
            bank, tracer, get_backend("cpu"), 0, Cells.of(bank.selection, tracer, None)
        )
        found = [planner.plan(extract(BODY.format(program))) for program in PROGRAMS]
        updates = Updates(planner.cells, tmp_path, num_cores=1)
        found = [updates.computed(plan) for plan in found if isinstance(plan, Plan)]
    made = [plan for plan in found if isinstance(plan, Plan)]
    assert [plan.tier for plan in made] == ["fused", "fused", "fused", "hybrid"]
    return made


def test_300_cycles_neither_grow_nor_drift(zoo, plans, tmp_path):
    task = load_task(f"jsonl:{zoo.tasks['mixed']}")
    first: dict[int, tuple] = {}
    with Client.start(EngineSettings(), tmp_path / "engine.log") as worker:
        base = worker.open_model("target", str(zoo.base))
        assert base == folder_fingerprint(zoo.base)
        places = {name: str(path) for name, path in zoo.experts.items()}
        worker.open_bank(str(zoo.base), places, "mlp", "cpu")
        pids = {"worker": worker.pid, "driver": os.getpid()}
        before: dict[str, int] = {}
        for cycle in range(CYCLES):
            if cycle == WARM_UP:
                before = {name: private_bytes(pid) for name, pid in pids.items()}
            which = cycle % len(plans)
            prints = worker.apply(plans[which].to_bytes())
            outcome = (prints, *evaluate(worker, "target", task, "dev"))
            assert outcome == first.setdefault(which, outcome), f"cycle {cycle} drifted"
        growth = {name: private_bytes(pid) - before[name] for name, pid in pids.items()}
        assert len({prints for prints, *_ in first.values()} | {base}) == len(plans) + 1
        assert worker.restore() == base == worker.fingerprint("target")
    print(f"growth in bytes after {WARM_UP} cycles: {growth}")
    assert all(bytes_ < MOST_GROWTH_BYTES for bytes_ in growth.values()), growth
