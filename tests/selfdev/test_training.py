"""Training in one process and in several: the same steps, the same generator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from selfdev_engine.engine.weights.capacity import ranks_of
from selfdev_engine.selfdev.train import (
    TrainingFailed,
    TrainSettings,
    environment,
    last_words,
    launch_words,
    train,
)

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
        given = {"generator": str(zoo.generator), "pairs": pairs, "dpo": DPO} | changes
        settings = TrainSettings(
            out=str(folder / name), prompt=prompt, held_out=pairs[:2], seed=3, **given
        )
        log = train(settings, lambda done, total: None, num_ranks)
        return log, load_file(folder / name / "model.safetensors")

    return run


def test_two_ranks_train_as_one_process_does(stage, zoo):
    one, ours = stage("one", 1)
    two, theirs = stage("two", 2)
    assert one.pop("ranks") == 1 and two.pop("ranks") == 2
    assert two.keys() == one.keys()
    for key, found in one.items():
        assert two[key] == pytest.approx(found, abs=2e-3), key
    assert one["loss"][-1] < 0.65  # 0.693 where nothing is learned
    assert one["held_out_margin_nats"][0] == 0 < one["held_out_margin_nats"][1]
    before = load_file(zoo.generator / "model.safetensors")
    moved = sum(((ours[k] - before[k]) ** 2).sum() for k in ours) ** 0.5
    apart = sum(((ours[k] - theirs[k]) ** 2).sum() for k in ours) ** 0.5
    # Ranks whose gradients are not averaged are apart by a tenth of the way.
    assert moved > 0 and apart < 1e-3 * moved


def test_a_failure_in_a_rank_is_told_in_its_own_words(stage, tmp_path):
    with pytest.raises(TrainingFailed, match="nothing-here") as caught:
        stage("none", 2, generator=str(tmp_path / "nothing-here"))
    assert "torch/distributed/elastic" not in str(caught.value)


def test_as_many_ranks_as_share_a_batch_evenly():
    assert [ranks_of(16, cards) for cards in (0, 1, 2, 3, 6, 8, 64)] == [1, 1, 2, 2, 4, 8, 16]
    assert ranks_of(7, 8) == 7 and ranks_of(7, 6) == 1


def test_one_rank_needs_no_launcher_and_sees_one_card(tmp_path):
    request = tmp_path / "settings.json"
    assert "torch.distributed.run" not in launch_words(request, 1)
    assert "--nproc-per-node=8" in launch_words(request, 8)
    assert environment("/s", ["3"])["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment("/s", ["0", "1"])["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in environment("/s", [])


def test_the_launchers_own_lines_are_left_out(tmp_path):
    log = tmp_path / "x.log"
    end = "E1129 10:00:00.1 7 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1)"
    log.write_text("\n".join([*map(str, range(20)), "OSError: no such model", end, "=" * 20]))
    assert last_words(log).split("\n")[-1] == "OSError: no such model"


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
