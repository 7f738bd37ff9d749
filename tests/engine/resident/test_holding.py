"""What a worker merges in one call, and that it comes to the same as tensor by tensor."""

from __future__ import annotations

import re
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.plans import cells
from selfdev_engine.engine.plans.apply import grouped
from selfdev_engine.engine.plans.plan import Computed, Fused, Plan
from selfdev_engine.engine.resident import holding
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.resident.model import Model
from selfdev_engine.engine.resident.worker import Worker
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.budget import Home
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.memos import Memos
from selfdev_engine.engine.weights.residency import Residency
from selfdev_engine.engine.weights.selection import Selection
from selfdev_engine.kernels.compiler import clock
from selfdev_engine.kernels.compiler.passes import canonical
from selfdev_engine.kernels.cpu import vm
from selfdev_engine.kernels.execution.backend import Backend
from selfdev_engine.kernels.ir import Builder, Op

parts = run_path(str(Path(__file__).parents[1] / "weights" / "memory_use.py"))
StillEngine, plans = parts["StillEngine"], parts["plans"]
SIZE = Size(layers=3)
TENSOR_BYTES = SIZE.hidden * SIZE.intermediate * 2


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"), SIZE, torch.bfloat16)


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """How many tensors each call of the backend merged."""
    merge_all, found = Backend.merge_all, list[int]()

    def counted(self, jobs):
        found.append(len(jobs))
        return merge_all(self, jobs)

    monkeypatch.setattr(Backend, "merge_all", counted)
    return found


def open_worker(models) -> Worker:
    checkpoint = Checkpoint.open(str(models.base))
    worker = Worker(cast(Any, None), EngineSettings())
    worker.models["target"] = Model(StillEngine(checkpoint), checkpoint)
    experts = {name: str(path) for name, path in models.experts.items()}
    worker.open_bank("target", str(models.base), experts, "mlp", "cpu")
    return worker


def in_groups(monkeypatch, most_bytes: int) -> None:
    """As on a GPU, the device aside."""
    monkeypatch.setattr(holding, "on_gpu", lambda backend: True)
    monkeypatch.setattr(holding, "GPU_GROUP_BYTES", most_bytes)


def scaled(worker: Worker, factors: list[float]) -> Plan:
    """Another constant for each tensor: one structure."""
    tensors = {}
    for name, factor in zip(worker.banks["target"].bank.selection.names, factors, strict=True):
        b = Builder()
        graph = canonical(b.graph(b.add(Op.MUL, b.input("a"), b.const(factor))))
        tensors[name] = Fused(graph)
    return Plan(tensors, "scaled")


def apply(worker: Worker, plan: Plan) -> str:
    return worker.apply("target", plan.to_bytes())["weights_fingerprint"]


def test_a_cpu_merges_few_tensors_together(models, calls, monkeypatch):
    monkeypatch.setattr(holding, "CPU_GROUP_BYTES", 2 * TENSOR_BYTES)
    worker = open_worker(models)
    apply(worker, plans(worker.banks["target"].bank.selection.names)[0])
    assert calls == [2, 2, 2, 2, 1]


@pytest.mark.parametrize(("most", "wanted"), [(10**9, [9]), (4 * TENSOR_BYTES, [4, 4, 1])])
def test_tensors_of_one_structure_share_a_call(models, calls, monkeypatch, most, wanted):
    worker = open_worker(models)
    selected = worker.banks["target"].bank.selection.names
    every = [*plans(selected), scaled(worker, [0.1 * i for i in range(1, 10)])]
    in_groups(monkeypatch, 0)
    alone = [apply(worker, plan) for plan in every]
    in_groups(monkeypatch, most)
    calls.clear()
    assert [apply(worker, plan) for plan in every] == alone
    assert calls == wanted * 3
    assert worker.fingerprint("target")["weights_fingerprint"] == alone[-1]


def test_plans_of_several_structures_do_not(models):
    worker = open_worker(models)
    bank = worker.banks["target"].bank
    one, other = (next(iter(plan.tensors.values())) for plan in plans(bank.selection.names))
    hybrid = Computed("", "hybrid", "", "")
    mixed = dict(
        zip(
            bank.selection.names,
            [one, other, hybrid, one, hybrid, other, one, one, one],
            strict=True,
        )
    )
    groups = grouped(mixed, list(mixed), bank.selection.base, 10**9)
    numbers = [[bank.selection.names.index(name) for name in group] for group in groups]
    assert numbers == [[0, 3, 6, 7, 8], [1, 5], [2], [4]]


@pytest.mark.parametrize("on_gpu", [False, True])
def test_one_tensor_that_is_not_finite_is_named_and_all_is_restored(models, monkeypatch, on_gpu):
    worker = open_worker(models)
    if on_gpu:
        in_groups(monkeypatch, 10**9)
    before = worker.models["target"].fingerprint
    plan = scaled(worker, [1.0] * 5 + [float("inf")] + [1.0] * 3)
    fault = "holds NaN or Inf in model.layers.1.mlp.up_proj.weight"
    with pytest.raises(Rejected, match=re.escape(fault)):
        apply(worker, plan)
    assert worker.models["target"].fingerprint == before
    assert worker.fingerprint("target")["weights_fingerprint"] == before


def test_time_is_looked_at_between_calls(models, monkeypatch):
    worker = open_worker(models)
    in_groups(monkeypatch, 4 * TENSOR_BYTES)
    worker.settings = EngineSettings(apply_limit_s=-1.0)
    selected = worker.banks["target"].bank.selection.names
    with pytest.raises(Rejected, match=f"{selected[3]} was reached"):
        apply(worker, plans(selected)[0])


def test_what_a_card_holds_is_there_once_the_bank_is_open(models, monkeypatch):
    """The first swap would read all of it in its own time, 42 GiB of a 7B run, and have the timeout."""
    experts = {name: str(path) for name, path in models.experts.items()}
    selection = Selection.open(str(models.base), experts, "mlp")
    # The processor stands for the card: a part has its place there, the rest stays on disk.
    homes = dict.fromkeys(selection.names[:4], Home.DEVICE) | {selection.names[4]: Home.DISK}
    with_card, without = (
        Bank(selection, Residency(selection, homes, device), Memos(len(homes)))
        for device in (torch.device("cpu"), None)
    )
    backend = open_worker(models).banks["target"].backend
    monkeypatch.setattr(holding, "placed", lambda *words: words[0])
    for bank in (with_card, without):
        holding.Holding.of(cast(Any, bank), backend)
    monkeypatch.setattr(Checkpoint, "tensor", lambda *words: pytest.fail("reads a file"))
    assert list(with_card.residency._held) == [n for n in homes if homes[n] is Home.DEVICE]
    assert all(with_card.tensors(name).name == name for name in selection.names[:4])
    assert not without.residency._held


def test_a_card_with_less_room_than_planned_leaves_the_rest_on_the_host(models, monkeypatch):
    """The plan had all on the card and pinned nothing; an engine took 60 MiB more than was assumed."""
    experts = {name: str(path) for name, path in models.experts.items()}
    selection = Selection.open(str(models.base), experts, "mlp")
    sizes = list(selection.sizes(selection.names).values())
    planned, least = sum(size.held for size in sizes), sizes[0].held
    monkeypatch.setattr(holding, "on_gpu", lambda backend: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for lacking, wanted in ((0, 0), (1, 1), (least + 1, 2), (planned, len(sizes))):
        free = holding.FREE_BYTES + planned - lacking
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 2 * free))
        bank = holding.placed(selection, cast(Any, None), None, planned, 0)
        homes = list(bank.residency.homes.values())
        assert len(homes) - homes.count(Home.DEVICE) == wanted


def test_each_call_knows_when_the_time_is_over(models, monkeypatch):
    """The C++ backend looks at that time within a tensor."""
    seen = []
    monkeypatch.setattr(vm, "wall_until", lambda: seen.append(clock.wall_until()) or seen[-1])
    worker = open_worker(models)
    seen.clear()
    apply(worker, plans(worker.banks["target"].bank.selection.names)[0])
    left = [until - time.monotonic() for until in seen]
    assert left and max(left) <= EngineSettings().apply_limit_s


def test_a_container_bounds_what_is_pinned_and_what_cells_take(models, monkeypatch):
    """The machine may have a hundred times as much: what is over the limit ends the process."""
    for module in (holding, cells):
        monkeypatch.setattr(module, "host_bytes", lambda: 2 << 20)
    monkeypatch.setattr(holding, "on_gpu", lambda backend: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    taken = SimpleNamespace(within=lambda *_, **words: words["host_bytes"])
    monkeypatch.setattr(holding, "Bank", taken)
    selection = Selection.open(str(models.base), {"a": str(models.experts["a"])}, "mlp")
    assert holding.placed(selection, cast(Any, None), None, None, None) == 1 << 20
    assert cells.available_bytes() == 2 << 20
