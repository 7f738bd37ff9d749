"""Training in one process and in several: the same steps, the same generator."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.weights.adapter import Adapter
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.training import ranks_of
from selfdev_engine.selfdev import inputs, train_process
from selfdev_engine.selfdev.config import RunConfig
from selfdev_engine.selfdev.train import (
    TrainingFailed,
    TrainSettings,
    environment,
    inherited,
    last_words,
    launch_words,
    log_of,
    train,
    was_killed,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_PAIRS, BATCH_SIZE, STEPS = 8, 4, 5
DPO = {
    "learning_rate": 4e-4,
    "beta": 0.3,
    "max_steps": STEPS,
    "batch_size": BATCH_SIZE,
    "warmup_steps": 1,
    "lora_rank": 8,
    "lora_alpha": 8,
    "sft_weight": 0.0,
    "forward_kl": False,
    "accumulation": 1,
    "max_epochs": 100,
    "eval_steps": 2,
    "patience": 1,
}


def program(number: int) -> str:
    first, second = number / 10, (number * 7) % 10 / 10
    return f"\n    a, b, c = model_dict.values()\n    return {first} * a + {second} * b\n"


@pytest.fixture(scope="module")
def stage(zoo, tmp_path_factory):
    """Return a function that trains the tiny writer: settings that differ -> its log, its weights."""
    folder = tmp_path_factory.mktemp("stages")
    prompt = (zoo.generator / "prompt.txt").read_text().rstrip("\n")
    pairs = [(program(i), program(20 + i)) for i in range(NUM_PAIRS)]

    def run(name: str, num_ranks: int, **changes):
        settings = TrainSettings(
            **{
                "generator": str(zoo.generator),
                "adapter": "",
                "out": str(folder / name),
                "adapter_out": str(folder / "adapters" / name),
                "prompt": prompt,
                "pairs": pairs,
                "best": [program(i) for i in (0, 1, 40)],
                "worst": [program(i) for i in (20, 21, 41)],
                "num_chosen": 10,
                "learn": "dpo",
                "dpo": DPO,
                "seed": 3,
                **changes,
            }
        )
        log = train(settings, lambda done, total: None, num_ranks)
        assert log == log_of(folder / "adapters" / name)
        return log, load_file(folder / name / "model.safetensors")

    run.folder = folder
    return run


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does(stage, zoo):
    one, ours = stage("one", 1)
    two, theirs = stage("two", 2)
    assert one.pop("ranks") == 1 and two.pop("ranks") == 2
    assert two.keys() == one.keys()
    losses, others = ([loss for _, loss in log.pop("holdout_loss")] for log in (one, two))
    assert len(losses) == 4 and others == pytest.approx(losses, abs=2e-3)  # steps 0, 2, 4 and 5
    for key, found in one.items():
        assert two[key] == pytest.approx(found, abs=2e-3), key
    assert one["loss"][-1] < 0.65  # 0.693 where nothing is learned
    assert one["kept_step"] == one["steps"] == STEPS  # none of before step 10 is kept
    margin, low, high = one["holdout_margin_nats"]
    assert low < 0 < margin < high and one["survived"] == pytest.approx(1, abs=1e-3)
    before = load_file(zoo.generator / "model.safetensors")
    moved = sum(((ours[k] - before[k]) ** 2).sum() for k in ours) ** 0.5
    apart = sum(((ours[k] - theirs[k]) ** 2).sum() for k in ours) ** 0.5
    # Ranks whose gradients are not averaged are apart by a tenth of the way.
    assert moved > 0 and apart < 1e-3 * moved


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
def test_who_has_the_first_generator_needs_the_adapter_alone(stage, zoo, tmp_path, dtype):
    """A node folds it to the very bits that training wrote."""
    base = tmp_path / "base"
    shutil.copytree(zoo.generator, base)
    file = base / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(file).items()}, file, {"format": "pt"})
    name = f"alone-{dtype}"
    _, wanted = stage(name, 1, generator=str(base), dpo=DPO | {"max_steps": 3})
    adapter, given = Adapter.open(stage.folder / "adapters" / name), Checkpoint.open(str(base))
    assert len(adapter.modules) > 6
    for key, tensor in wanted.items():
        folded = adapter.fold(key, given.tensor(key))
        assert torch.equal(folded, tensor) and folded.dtype == tensor.dtype == dtype
        assert torch.equal(folded, given.tensor(key)) is (key not in adapter.modules)


def test_an_adapter_goes_on_in_float32_and_only_what_is_swapped_is_rounded(stage, zoo, tmp_path):
    """On a bfloat16 generator small steps are lost in the copy, but not in the adapter."""
    model = AutoModelForCausalLM.from_pretrained(zoo.generator, dtype=torch.bfloat16)
    half = tmp_path / "half"
    model.save_pretrained(half)
    AutoTokenizer.from_pretrained(zoo.generator).save_pretrained(half)
    slow = {"generator": str(half), "dpo": DPO | {"learning_rate": 1e-5, "eval_steps": 50}}
    log, first = stage("first", 1, **slow)
    assert 0.01 < log["survived"] < 0.99 and log["holdout_loss"][0][0] == 0
    adapter = str(Path(stage.folder) / "adapters" / "first")
    start = load_file(f"{adapter}/adapter_model.safetensors")
    assert {tensor.dtype for tensor in start.values()} == {torch.float32}
    again, second = stage("second", 1, adapter=adapter, **slow)
    # The reference is the generator with the first adapter, so the loss begins where nothing is gained.
    assert again["holdout_loss"][0] == [0, 0.6931]
    end = load_file(Path(stage.folder) / "adapters" / "second" / "adapter_model.safetensors")
    shifts = [abs(end[k] - start[k]).max() for k in start if "lora_B" in k]
    assert 0 < max(shifts) < 2 * STEPS * 1e-5
    assert any((second[k] != first[k]).any() for k in first)


@pytest.mark.slow
def test_likelihood_alone_and_forward_kl_are_other_losses(stage):
    """The loss of `sft` begins at the likelihood of the holdout's best, that of DPO at log 2."""
    # The rate of the first step is 0, and in the second one both divergences have the same gradient.
    few = {"num_chosen": 10, "dpo": DPO | {"max_steps": 3, "eval_steps": 50}}
    sft, _ = stage("sft", 1, learn="sft", **few)
    assert sft["steps"] == 3 and sft["holdout_loss"][0][1] != pytest.approx(0.6931, abs=1e-3)
    other, theirs = stage("forward", 1, dpo=few["dpo"] | {"forward_kl": True})
    usual, ours = stage("usual", 1, **few)
    assert other["holdout_loss"][0] == usual["holdout_loss"][0]
    assert any((ours[k] != theirs[k]).any() for k in ours)


def test_few_chosen_programs_end_at_the_cap(stage):
    log, _ = stage("few", 1, num_chosen=9, dpo=DPO | {"max_epochs": 1.5, "accumulation": 2})
    assert log["holdout_loss"] == [] and log["steps"] == 2  # 1.5 times 8 pairs in steps of 8
    assert log["holdout_margin_nats"][0] is not None


def test_a_loss_that_is_no_number_ends_the_stage_in_words(stage):
    """Also in fewer steps than are logged; nothing is left that a resumed run would take."""
    wild = DPO | {"learning_rate": 1e30, "max_steps": 3, "eval_steps": 50, "warmup_steps": 0}
    with pytest.raises(UsageError, match=r"no finite number at step \d: lower"):
        stage("wild", 1, dpo=wild)
    left = {path.name for path in Path(stage.folder).rglob("wild*")}
    assert left == {"wild.log"}


def test_a_disk_that_takes_no_adapter_ends_the_stage_in_words_and_the_next_one_goes_through(stage):
    """No file of a process may be larger than its limit, which is less than an adapter."""
    few = DPO | {"max_steps": 1, "eval_steps": 50}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot be written \(.*\): free some space; nothing"):
            stage("full", 1, dpo=few)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in Path(stage.folder).rglob("full") if path.is_dir()]
    assert stage("full", 1, dpo=few)[0]["steps"] == 1


def test_a_failure_in_a_rank_is_told_in_its_own_words(stage, tmp_path):
    with pytest.raises(TrainingFailed, match="nothing-here") as caught:
        stage("none", 2, generator=str(tmp_path / "nothing-here"))
    assert "torch/distributed/elastic" not in str(caught.value)


def test_as_many_ranks_as_share_a_batch_evenly():
    assert [ranks_of(16, cards) for cards in (0, 1, 2, 3, 6, 8, 64)] == [1, 1, 2, 2, 4, 8, 16]
    assert ranks_of(7, 8) == 7 and ranks_of(7, 6) == 1


def test_a_driver_without_cards_does_not_train_for_a_cluster_that_has_some(monkeypatch):
    cards, slots = [], SimpleNamespace(gpus=8)
    monkeypatch.setattr(inputs, "devices_here", lambda: cards)
    monkeypatch.setattr(inputs, "connect", lambda address: SimpleNamespace(slots=slots))
    words = {"base": "b", "experts": {"x": "e", "y": "f"}, "task": "gsm8k"}
    config = RunConfig(**words, cluster={"address": "head:6379"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"which has no GPU .* or set learn: none"):
        inputs.check_cards_to_train_on(config)
    inputs.check_cards_to_train_on(config.model_copy(update={"iterations": 1}))
    inputs.check_cards_to_train_on(RunConfig(**words))  # type: ignore[arg-type]
    cards.append("0")
    inputs.check_cards_to_train_on(config)
    cards.clear()
    slots.gpus = 0
    inputs.check_cards_to_train_on(config)


def test_one_rank_needs_no_launcher_and_sees_one_card(tmp_path):
    request = tmp_path / "settings.json"
    assert "torch.distributed.run" not in launch_words(request, 1)
    assert "--nproc-per-node=8" in launch_words(request, 8)
    assert environment("/s", ["3"])["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment("/s", ["0", "1"])["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in environment("/s", [])


def test_ranks_meet_where_no_resolver_is_needed(tmp_path):
    """By default they meet at the machine's full name, which in a container is often in no DNS."""
    assert "--local-addr=127.0.0.1" in launch_words(tmp_path / "settings.json", 2)


def test_a_stage_knows_nothing_of_the_launcher_of_its_driver():
    """With WORLD_SIZE=4 or PET_NNODES=4 of a batch system it would wait for ranks that never come."""
    launched = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    )
    launched += ("PET_NNODES", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP", "OMPI_COMM_WORLD_SIZE")
    kept = {"PATH": "/bin", "HF_HOME": "/hub", "NCCL_DEBUG": "INFO", "SLURM_NTASKS": "4"}
    assert inherited(kept | dict.fromkeys(launched, "4")) == kept


def test_each_rank_works_on_its_card_before_anything_is_loaded(monkeypatch):
    """peft loads an adapter to the present card: of eight ranks seven would leave a copy on the first."""
    seen = list[object]()
    monkeypatch.setattr(train_process, "RANK", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    load = staticmethod(lambda folder, **words: seen.append(words["device_map"]))
    monkeypatch.setattr(train_process.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(train_process, "dtype_of", lambda folder: torch.float16)
    train_process.load_model("m")
    assert seen == [3, {"": 3}]


def test_the_launchers_own_lines_are_left_out(tmp_path):
    log = tmp_path / "x.log"
    end = "E1129 10:00:00.1 7 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1)"
    log.write_text("\n".join([*map(str, range(20)), "OSError: no such model", end, "=" * 20]))
    assert last_words(log).split("\n")[-1] == "OSError: no such model"


def test_a_stage_that_the_system_kills_is_told_as_short_of_memory(tmp_path, monkeypatch):
    (tmp_path / "killed_here.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("selfdev_engine.selfdev.train.MODULE", "killed_here")
    places = str(tmp_path / "out"), str(tmp_path / "adapter")
    settings = TrainSettings("", "", *places, "", [], [], [], 0, "dpo", DPO, 0)
    with pytest.raises(UsageError, match=r"memory runs out.*dpo.batch_size.*--resume"):
        train(settings, lambda done, total: None, 1)


def test_the_launcher_tells_of_a_rank_that_was_killed(tmp_path):
    log = tmp_path / "x.log"
    log.write_text(
        "  exitcode  : -9 (pid: 7)\n  traceback : Signal 9 (SIGKILL) received by PID 7\n"
    )
    assert was_killed(1, log)
    log.write_text("  traceback : Signal 15 (SIGTERM) received by PID 7\n")
    assert not was_killed(1, log)


DRIVER = """
import os, subprocess, sys, time
from selfdev_engine.engine.sandbox.bound import bound_words
child = subprocess.Popen(bound_words(os.getpid(), sys.argv[1]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("wait_s", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_its_driver(tmp_path, number, wait_s):
    """At once, also while it still imports: else a stage trained on for nobody."""
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(60)\n")
    words = [sys.executable, "-c", DRIVER, "slow_import"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        time.sleep(wait_s)
        driver.send_signal(number)
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
