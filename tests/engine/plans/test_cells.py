"""What torch computes of a candidate: in a locked child, within its limits, once, into one file."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from selfdev_engine.engine.errors import Rejected, Rejection, UsageError
from selfdev_engine.engine.plans.apply import update_of
from selfdev_engine.engine.plans.cells import (
    LEAST_BYTES,
    Cells,
    parts_of,
    sizes_in,
    values_in,
)
from selfdev_engine.engine.plans.packed import files_of
from selfdev_engine.engine.plans.plan import Computed, Eager, Hybrid, Plan
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.plans.updates import Updates
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.sandbox import guard
from selfdev_engine.engine.trace.graph import Ref, TraceGraph, TraceNode
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.trace.wire import pack_tensor
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.kernels.backends import get_backend

HEAD = "import torch\n\ndef merge_models(d, device):\n    a, b = d.values()\n"
SVD = HEAD + "    u, s, v = torch.linalg.svd(a, full_matrices=False)\n    return (u * s) @ v + b\n"
NAMES, SHAPE = ("x", "y"), (24, 40)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two experts, each with three weights of 24 x 40, in bfloat16 and float32."""
    folder, draw = tmp_path_factory.mktemp("models"), torch.Generator().manual_seed(1)
    base = {f"layers.{i}.mlp.up_proj.weight": torch.randn(SHAPE, generator=draw) for i in range(3)}
    for name in ("base", *NAMES):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text('{"model_type": "llama"}')
        noise = 0.0 if name == "base" else 0.01
        moved = {k: t + noise * torch.randn(SHAPE, generator=draw) for k, t in base.items()}
        dtype = torch.float32 if name == "y" else torch.bfloat16
        save_file({k: t.to(dtype) for k, t in moved.items()}, folder / name / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tracer():
    torch.set_num_threads(1)
    with Tracer(TraceSettings(timeout_s=5.0)) as one:
        yield one


@pytest.fixture
def bank(models):
    return Bank.open(str(models / "base"), {n: str(models / n) for n in NAMES}, "mlp")


@pytest.fixture
def planner(bank, tracer):
    return Planner(bank, tracer, get_backend("cpu"), 0, Cells.of(bank.selection, tracer, None))


def vectors(bank, name: str) -> dict[str, torch.Tensor]:
    tensors = bank.tensors(name)
    return {n: e.float() - tensors.base.float() for n, e in tensors.experts.items()}


def planned(planner, text: str) -> Plan:
    plan = planner.plan(extract(text))
    assert isinstance(plan, Plan), plan
    return plan


def computed(planner, text: str, folder: Path, num_cores: int = 1) -> Plan | Rejection:
    return Updates(planner.cells, folder, num_cores).computed(planned(planner, text))


# ---- right


@pytest.mark.parametrize("num_cores", [1, 3])
def test_a_hybrid_update_is_torch_s(planner, bank, tmp_path, num_cores):
    plan, found = planned(planner, SVD), computed(planner, SVD, tmp_path, num_cores)
    assert isinstance(found, Plan)
    assert (found.fingerprint, found.tier) == (plan.fingerprint, "hybrid")
    for name, hybrid in plan.tensors.items():
        assert isinstance(hybrid, Hybrid)
        (wanted,) = replay(hybrid.trace, vectors(bank, name))
        update = update_of(found.tensors[name], bank.tensors(name), get_backend("cpu"))
        assert torch.equal(update, wanted) and not torch.equal(update, 0 * wanted)


def test_an_eager_program_may_write_into_its_inputs(planner, bank, tmp_path):
    text = HEAD + "    a.copy_(torch.tensor(sorted(a.flatten().tolist())).reshape(a.shape))\n"
    text += "    exec('a.mul_(2)')\n    return a + b\n"
    plan = Plan(dict.fromkeys(bank.selection.names, Eager(extract(text), 0, "forced")), "f")
    updates = Updates(planner.cells, tmp_path, num_cores=1)
    for _ in range(2):
        found = updates.computed(plan)
        assert isinstance(found, Plan), found
    for name in bank.selection.names:
        a, b = vectors(bank, name).values()
        wanted = 2 * a.flatten().sort().values.reshape(SHAPE) + b
        assert torch.equal(
            update_of(found.tensors[name], bank.tensors(name), get_backend("cpu")), wanted
        )


def test_questions_are_answered_where_no_kernel_can(planner, bank):
    text = HEAD + "    s = torch.linalg.svdvals(a)\n    k = int((s > s.mean()).sum())\n"
    text += "    return k * a + float(s[0]) * b\n"
    plan = planned(planner, text)
    assert plan.tier == "fused" and plan.num_asks
    name = bank.selection.names[0]
    a, b = vectors(bank, name).values()
    s = torch.linalg.svdvals(a)
    wanted = int((s > s.mean()).sum()) * a + float(s[0]) * b
    update = update_of(plan.tensors[name], bank.tensors(name), get_backend("cpu"))
    assert (update - wanted).norm() < 1e-5 * wanted.norm()


def test_what_torch_refuses_is_the_program_s_to_catch(planner):
    text = HEAD + "    try:\n        n = float(torch.linalg.inv(0 * a[:4, :4])[0, 0])\n"
    text += "    except RuntimeError:\n        n = 2.0\n    return n * b\n"
    plan = planned(planner, text)
    assert plan.tier == "fused"


def test_a_size_that_depends_on_values_is_known(planner, bank, tmp_path):
    text = (
        HEAD + "    picked = a[a > 0]\n    return a * (picked.sort().values[-1] / picked.numel())\n"
    )
    found = computed(planner, text, tmp_path)
    assert isinstance(found, Plan), found
    name = bank.selection.names[1]
    a, _ = vectors(bank, name).values()
    wanted = a * (a[a > 0].max() / int((a > 0).sum()))
    update = update_of(found.tensors[name], bank.tensors(name), get_backend("cpu"))
    assert (update - wanted).norm() < 1e-5 * wanted.norm()


# ---- within limits


HOSTILE = {
    "crash": ("import ctypes\n    ctypes.string_at(0)", {"violation", "runtime"}),
    "memory": ("x = torch.ones(1 << 29)", {"memory"}),
    "shared memory": ("import mmap\n    x = mmap.mmap(-1, 1 << 33)", {"violation"}),
    "file": ("open('/etc/passwd')", {"violation"}),
    "flood": ("import os\n    while True:\n        os.write(3, b'x' * 65536)", {"violation"}),
    "question": (
        "import os\n    os.write(3, b'\\x0c\\0\\0\\0{\"ask\": null}')\n    while True: pass",
        {"violation"},
    ),
    "loop": ("while True: pass", {"timeout"}),
    "shape": ("a = a[1:]\n    b = b[1:]", {"shape"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_function_ends_with_itself(bank, tracer, tmp_path, name):
    """It is a rejection of that program, in time, and the next one in the same sandbox is right."""
    body, kinds = HOSTILE[name]
    cells = Cells(tracer.sandbox, parts_of(bank.selection), LEAST_BYTES, 2.0, 2.0)
    updates = Updates(cells, tmp_path, num_cores=2)

    def run(code: str) -> Plan | Rejection:
        plan = Eager(extract(HEAD + f"    {code}\n    return a + b\n"), 0, "forced")
        return updates.computed(Plan(dict.fromkeys(bank.selection.names, plan), name + code))

    began = time.monotonic()
    found = run(body)
    assert isinstance(found, Rejection) and found.kind in kinds, found
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []
    assert isinstance(run("pass"), Plan)


UNMAP = """    import ctypes, sys
    libc = ctypes.CDLL(None)
    frame = sys._getframe()
    while "attempts" not in frame.f_locals:
        frame = frame.f_back
    maps, ends = frame.f_locals["maps"], []
    for one in maps:
        start = torch.frombuffer(one, dtype=torch.uint8).data_ptr() // 4096 * 4096
        ends.append(libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(len(one))))
    # Otherwise the verdict would be that ctypes is forbidden.
    frame.f_locals["attempts"].clear()
    raise RuntimeError(f"unmapped {ends.count(0)} of {len(maps)}")
"""


@pytest.mark.skipif(not guard.seal(0, 0), reason="this kernel has no mseal (Linux 6.10)")
def test_a_cell_cannot_free_the_room_of_its_maps(bank, tracer, tmp_path):
    """Unmapped checkpoints would be address space for memory of its own, beyond its limit."""
    plan = Eager(extract(HEAD + UNMAP), 0, "forced")
    cells = Cells.of(bank.selection, tracer, None)
    found = Updates(cells, tmp_path, num_cores=1).computed(
        Plan(dict.fromkeys(bank.selection.names, plan), "unmap")
    )
    assert isinstance(found, Rejection)
    assert re.search(r"unmapped 0 of [1-9]", found.detail), found


def test_what_would_take_too_long_is_refused_at_its_first_tensor(bank, tracer, tmp_path):
    slow = Eager(extract(HEAD + "    import time\n    time.sleep(1.5)\n    return a\n"), 0, "")
    cells = Cells(tracer.sandbox, parts_of(bank.selection), LEAST_BYTES, 3.0, 3.0)
    plan = Plan(dict.fromkeys(bank.selection.names, slow), "slow")
    began = time.monotonic()
    found = Updates(cells, tmp_path, num_cores=1).computed(plan)
    assert isinstance(found, Rejection) and found.kind == "timeout", found
    assert "would take about" in found.detail
    assert time.monotonic() - began < 3.0 + 10.0


def test_a_bigger_tensor_runs_alone(bank, tracer):
    """Cells that are open at once share the memory, and each may take what its tensor needs."""
    cells = Cells(tracer.sandbox, parts_of(bank.selection), 4 * LEAST_BYTES, 1.0, 1.0)
    names = list(bank.selection.names)
    assert cells.num_at_once(names, num_cores=8) == 3
    assert cells.num_at_once(names, num_cores=2) == 2
    small = Cells(tracer.sandbox, parts_of(bank.selection), LEAST_BYTES, 1.0, 1.0)
    assert small.num_at_once(names, num_cores=8) == 1


def test_a_file_that_is_cut_off_is_named(models, tracer, tmp_path):
    shutil.copytree(models, tmp_path / "models")
    file = tmp_path / "models" / "x" / "model.safetensors"
    experts = {n: str(tmp_path / "models" / n) for n in NAMES}
    bank = Bank.open(str(tmp_path / "models" / "base"), experts, "mlp")
    program = extract(HEAD + "    return a + b\n")
    plan = Plan(dict.fromkeys(bank.selection.names, Eager(program, 0, "")), "cut")
    cells = Cells.of(bank.selection, tracer, None)
    os.truncate(file, 400)
    with pytest.raises(UsageError, match=r"x/model.safetensors: cut off while it was read"):
        Updates(cells, tmp_path, num_cores=1).computed(plan)


# ---- its files


def test_each_update_is_computed_once_and_goes_with_its_candidate(planner, tmp_path):
    plan = planned(planner, SVD)
    updates = Updates(planner.cells, tmp_path, num_cores=1)
    found, again = updates.computed(plan), updates.computed(plan)
    assert isinstance(found, Plan) and found == again
    (file,) = tmp_path.iterdir()
    with safe_open(file, "pt") as content:
        assert set(content.keys()) == set(plan.tensors)
    updates.keep_only({plan.fingerprint})
    assert file.exists()
    updates.keep_only(set())
    assert not file.exists() and not updates.files


def test_a_worker_gets_no_graph_of_torch_s(planner, tmp_path):
    plan = planned(planner, SVD)
    with pytest.raises(AssertionError, match="not computed"):
        plan.to_bytes()
    found = computed(planner, SVD, tmp_path)
    assert isinstance(found, Plan)
    sent = found.to_bytes()
    assert b"aten" not in sent.replace(found.reason.encode(), b"")
    assert all(isinstance(one, Computed) for one in Plan.from_bytes(sent).tensors.values())


def test_a_plan_names_its_files_and_finds_them_on_another_machine(planner, tmp_path):
    found = computed(planner, SVD, tmp_path)
    assert isinstance(found, Plan)
    sent, (file,) = found.to_bytes(), map(str, tmp_path.iterdir())
    assert files_of(sent) == (file,) and files_of(bytes(sent)) == ()
    for places, there in (({}, file), ({file: "/there/u"}, "/there/u")):
        read = Plan.from_bytes(sent, places).tensors.values()
        assert {one.file for one in read if isinstance(one, Computed)} == {there}


def test_files_of_a_run_that_was_killed_are_removed(planner, tmp_path):
    (tmp_path / "updates-old.safetensors").write_bytes(b"x" * 100)
    Updates(planner.cells, tmp_path, num_cores=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(planner, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match="no room for 0 MiB of updates: No space left"):
        computed(planner, SVD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_begun_than_the_quota_holds(planner, tmp_path):
    updates = Updates(planner.cells, tmp_path, num_cores=1)
    assert not updates.is_full
    updates.computed(planned(planner, SVD))
    updates.quota_bytes = 1 << 30
    assert not updates.is_full
    updates.quota_bytes = 1000
    assert updates.is_full


# ---- replies that nobody believes

PACKED = pack_tensor(torch.tensor([1.0, 2.0]))
FALSE_VALUES = (
    *({}, {"values": None}, {"values": []}, {"values": [PACKED, PACKED]}, {"values": [None]}),
    *({"values": [{**PACKED, "shape": [3]}]}, {"values": [{**PACKED, "dtype": "float64"}]}),
    *({"values": [{**PACKED, "dtype": "Tensor"}]}, {"values": [{**PACKED, "data": "!"}]}),
    *({"values": [{**PACKED, "data": ""}]}, {"values": [{"dtype": "float32"}]}),
    {"values": [{**PACKED, "shape": [0, *[1 << 40] * 3], "data": ""}]},
)
FALSE_SIZES = (
    *({}, {"sizes": []}, {"sizes": [None]}, {"sizes": [[[-1], "float32"]]}),
    {"sizes": [[[0, *[1 << 40] * 3], "float32"]]},
    *({"sizes": [[[1 << 41], "float32"]]}, {"sizes": [[[1 << 30, 1 << 30], "float32"]]}),
    *(
        {"sizes": [[[2], "Tensor"]]},
        {"sizes": [[[True], "float32"]]},
        {"sizes": [[[1] * 9, "bool"]]},
    ),
)


@pytest.mark.parametrize("reply", FALSE_VALUES, ids=str)
def test_false_values_are_a_violation(reply):
    with pytest.raises(Rejected) as refused:
        values_in(reply, [((2,), torch.float32)])
    assert refused.value.rejection.kind == "violation"


@pytest.mark.parametrize("reply", FALSE_SIZES, ids=str)
def test_false_sizes_are_a_violation(reply):
    with pytest.raises(Rejected) as refused:
        sizes_in(reply)
    assert refused.value.rejection.kind == "violation"


def test_true_replies_are_believed():
    (value,) = values_in({"values": [PACKED]}, [((2,), torch.float32)])
    assert value.tolist() == [1.0, 2.0]
    for shape in ((2, 1 << 40, 0), (1 << 41, 1 << 20, 0)):
        empty = {"dtype": "float32", "shape": list(shape), "data": ""}
        (value,) = values_in({"values": [empty]}, [(shape, torch.float32)])
        assert tuple(value.shape) == shape
    (size,) = sizes_in({"sizes": [[[5, 2], "int64"]]})
    assert (tuple(size.shape), size.dtype, size.device.type) == ((5, 2), torch.int64, "meta")


def test_a_graph_that_crashes_torch_is_a_rejection(bank, tracer):
    """`_reshape_alias` beyond its memory: whatever it reads, it reads in the cell."""
    nodes = (
        TraceNode("input", ("x",), {}, SHAPE, torch.float32),
        TraceNode("aten._reshape_alias.default", (Ref(0), (4096, 4096), (1 << 24, 1)), {}, (4096, 4096), torch.float32),
        TraceNode("aten.sum.default", (Ref(1),), {}, (), torch.float32),
    )  # fmt: skip
    question = TraceGraph(NAMES, SHAPE, nodes, (2,))
    cells = Cells.of(bank.selection, tracer, None)
    with cells.open(bank.selection.names, 20.0) as cell, pytest.raises(Rejected) as refused:
        cell.answer(bank.selection.names[0], question)
    assert refused.value.rejection.kind == "runtime"
    assert "SIGSEGV" in refused.value.rejection.detail
