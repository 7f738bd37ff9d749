"""What a machine with a GPU has to show on its first day, in this order; the kernels' own tests come before.

Each part takes less than ten minutes. The results stand in runs/gpu-suite.json.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from selfdev_engine.engine.plans.cells import Cells
from selfdev_engine.engine.plans.plan import Fused
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.resident.ask import ask
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.tasks.load import load_task
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint
from selfdev_engine.engine.weights.machine import gpus_here
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.digest import CHUNK_BYTES, digest
from selfdev_engine.selfdev.train import TrainSettings, train

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

REPO = Path(__file__).parents[2]
# It asks for statistics of rows, of columns and of the whole tensor.
PROGRAM = (
    "def merge_models(d, device):\n    a, b, c = d.values()\n"
    "    keep = a.abs() >= a.abs().amax(1, keepdim=True) * 0.1\n"
    "    return 0.4 * a * keep + b * a.norm() / (1e-6 + b.norm()) + 0.1 * c.sign() * c.abs().mean(0)\n"
)


def test_the_fingerprint_is_that_of_the_processor(card):
    from selfdev_engine.kernels.triton.digest import digests

    sizes = (1, 7, 255, CHUNK_BYTES // 4, CHUNK_BYTES // 4 + 3, 1_000_003)
    tensors = [torch.randn(size) for size in sizes]
    tensors += [tensor.to(torch.bfloat16) for tensor in tensors]
    wanted = [digest(tensor.view(torch.uint8).numpy().tobytes()) for tensor in tensors]
    assert digests([tensor.to(card) for tensor in tensors]) == wanted
    tensors[0][0] += 1
    assert digests([tensors[0].to(card)]) != wanted[:1]


def test_the_plan_knows_the_bytes_of_the_card(card):
    first = gpus_here()[0]
    free, total = torch.cuda.mem_get_info(card)
    assert abs(first.size_bytes - total) < 0.03 * total
    assert first.free_bytes <= total and free <= total


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_weights_are_swapped_in_place(engine, backend, zoo, selfdev, tmp_path):
    """A live engine holds what `merge` writes, answers as a fresh one does, and gives the base back."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    program, out = tmp_path / "program.py", tmp_path / "merged"
    program.write_text(PROGRAM)
    words = ["merge", program, *zoo.models, "--backend", backend, "--out", out]
    answer = selfdev(*words, timeout_s=500)
    assert answer.code == 0, answer.stderr
    task, settings = load_task(f"jsonl:{zoo.tasks['mixed']}"), EngineSettings(engine=engine)
    places = {name: str(path) for name, path in zoo.experts.items()}
    with Client.start(settings, tmp_path / "live.log") as live:
        base = live.open_model("target", str(zoo.base))
        assert base == folder_fingerprint(zoo.base)
        live.open_bank(str(zoo.base), places, "mlp", backend)
        before = ask(live, "target", task, "dev")
        assert live.apply(fused_plan(zoo).to_bytes()) == folder_fingerprint(out) != base
        assert live.fingerprint("target") == folder_fingerprint(out)
        merged = ask(live, "target", task, "dev")
        assert live.restore() == live.fingerprint("target") == base
        assert ask(live, "target", task, "dev") == before != merged
    with Client.start(settings, tmp_path / "fresh.log") as fresh:
        fresh.open_model("target", str(out))
        answers = ask(fresh, "target", task, "dev")
    # The last bits of a sum may differ between two starts of an engine on a GPU.
    assert sum(x == y for x, y in zip(answers, merged, strict=True)) >= 0.98 * len(answers)


def fused_plan(zoo):
    """Plan the program for the tiny zoo."""
    places = {name: str(path) for name, path in zoo.experts.items()}
    bank = Bank.open(str(zoo.base), places, "mlp", hold=True)
    with Tracer(TraceSettings()) as tracer:
        cells = Cells.of(bank.selection, tracer, None)
        plan = Planner(bank, tracer, get_backend("cpu"), 0, cells).plan(extract(PROGRAM))
    assert all(isinstance(tensor, Fused) for tensor in plan.tensors.values())
    return plan


def test_a_screening_of_the_tiny_zoo(zoo, selfdev, backend, tmp_path):
    screen(selfdev, zoo.models, zoo.tasks["mixed"], backend, tmp_path / "run", "examples")


def test_a_screening_of_smollm2(selfdev, backend, tmp_path):
    folder = REPO / "zoo" / "smollm2"
    if not (folder / "zoo.json").exists():
        pytest.skip("make it first: selfdev-engine zoo zoo/smollm2 --size smollm2")
    experts = [f"{path.name}={path}" for path in sorted((folder / "experts").iterdir())]
    models = ["--base", folder / "base", *(w for e in experts for w in ("--expert", e))]
    task = folder / "tasks" / "mixed.jsonl"
    screen(selfdev, models, task, backend, tmp_path / "run", "examples/ties.py")


def screen(selfdev, models, task, backend, run, programs):
    """Screen programs by the command: all get a score, and the same command pays nothing twice."""
    words = ["screen", REPO / programs, *models, "--task", f"jsonl:{task}", "--backend", backend]
    first = selfdev(*words, "--run", run, "--json", timeout_s=580)
    assert first.code == 0, first.stderr
    found = first.json
    statuses = {row["id"]: row["status"] for row in found["candidates"]}
    # One of the examples reads a file, and is rejected for it.
    assert set(statuses.values()) <= {"scored", "duplicate", "rejected"}, statuses
    assert "scored" in statuses.values()
    again = selfdev(*words, "--run", run, "--json", timeout_s=580).json
    assert [r["score"] for r in again["candidates"]] == [r["score"] for r in found["candidates"]]


def test_one_step_of_training(device, zoo, tmp_path):
    prompt = (zoo.generator / "prompt.txt").read_text().rstrip("\n")
    bodies = [f"\n    a, b, c = d.values()\n    return {i / 10} * a\n" for i in range(4)]
    dpo = {"learning_rate": 1e-3, "beta": 0.1, "max_steps": 1, "batch_size": 2, "warmup_steps": 0}
    dpo |= {"lora_rank": 8, "lora_alpha": 8, "sft_weight": 1.0}
    dpo |= {"accumulation": 1, "max_epochs": 1, "forward_kl": False, "eval_steps": 1, "patience": 1}
    pairs, out = [(bodies[0], bodies[1]), (bodies[2], bodies[3])], tmp_path / "trained"
    places = {"adapter": "", "out": str(out), "adapter_out": str(tmp_path / "adapter")}
    sides = {"best": bodies[:2], "worst": bodies[2:], "num_chosen": 10, "learn": "dpo"}
    given = {"prompt": prompt, "pairs": pairs, "dpo": dpo, "seed": 0}
    settings = TrainSettings(generator=str(zoo.generator), **places, **sides, **given)
    log = train(settings, lambda done, total: None)
    assert log["steps"] == 1 and all(map(math.isfinite, log["holdout_margin_nats"]))
    before, after = (load_file(place / "model.safetensors") for place in (zoo.generator, out))
    moved = [name for name in before if (before[name] != after[name]).any()]
    assert moved, json.dumps(log)
