"""The loop, small but real: samples, live weights, TRL, a better writer, a report, an export."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.results import looks_of

pytestmark = pytest.mark.engine

NUM_SAMPLES = 48


@pytest.fixture(scope="module")
def config(zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    rows = [json.loads(line) for line in zoo.tasks["mixed"].read_text().split("\n") if line]
    rows = [r for r in rows if r["split"] == "dev"][:40] + [
        r for r in rows if r["split"] == "test"
    ][:40]
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    demo = yaml.safe_load((zoo.folder.parents[1] / "configs" / "demo.yaml").read_text())
    demo |= {
        "base": str(zoo.base),
        # Named as on the hub.
        "experts": {f"zoo/{n}-1.0": {"model": str(p), "about": n} for n, p in zoo.experts.items()},
        "generator": str(zoo.generator),
        "task": "jsonl:task.jsonl",
        "iterations": 2,
        "samples": NUM_SAMPLES,
        "test": {"top": 2},
        "baselines": ["model_stock"],
        "arms": ["no_learning", "linear"],
    }
    demo["dpo"] |= {"max_steps": 12}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(demo))
    return path


@pytest.fixture(scope="module")
def result(selfdev, config):
    words = (config, "--run", config.parent / "run", "--report-to", "tensorboard", "--json")
    answer = selfdev("run", *words, timeout_s=550)
    assert answer.code == 0, answer.stderr
    return answer.json


def test_the_writer_is_trained_between_iterations(result):
    first, second = result["iterations"]
    for turn in (first, second):
        assert turn["sampled"] == NUM_SAMPLES
        assert turn["unique"] <= turn["sampled"]
        assert turn["valid"] + sum(turn["rejected"].values()) <= turn["sampled"]
        assert sum(turn["categories"].values()) == turn["sampled"]
        assert turn["valid"] >= 5
    assert first["pairs"] >= 8
    assert first["dpo_steps"] == 12
    assert first["generator_fingerprint"] != second["generator_fingerprint"]


def test_the_stage_leaves_an_adapter_and_what_it_measured(result, config):
    first, second = result["iterations"]
    log = first["training"]
    assert log["kept_step"] >= 10 or log["holdout_loss"] == []
    assert len(log["holdout_margin_nats"]) == 3 and 0.99 < log["survived"] < 1.01
    adapter = config.parent / "run" / "adapters" / "2"
    assert (adapter / "adapter_model.safetensors").is_file()
    assert json.loads((adapter / "training.json").read_text()) == log
    assert "training" not in second


def test_tensorboard_has_the_curves(result, config):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(config.parent / "run" / "tensorboard"))
    events.Reload()
    best = [(e.step, e.value) for e in events.Scalars("iterations/main/best")]
    assert best == [(t["iteration"], pytest.approx(t["best"])) for t in result["iterations"]]
    loss = [e.value for e in events.Scalars("training/main/1/loss")]
    assert loss == pytest.approx(result["iterations"][0]["training"]["loss"])


def test_the_final_test_says_who_won(result):
    base, _, baseline = result["comparisons"]
    assert (base["b"], baseline["b"]) == ("base", "model_stock")
    assert result["verdict"].startswith("On 40 test questions the best program by dev")
    # Base, three experts, a baseline, up to two programs of each arm, the best of each iteration.
    assert 5 <= result["test_looks"] <= 12


def test_control_arms_have_the_same_samples_and_no_training(result, config):
    control, linear = result["arms"]["no_learning"], result["arms"]["linear"]
    assert control["samples"] == linear["samples"] == 2 * NUM_SAMPLES
    first, second = control["iterations"]
    mine = result["iterations"]
    same = ("categories", "mean", "best", "generator_fingerprint")
    assert [first[key] for key in same] == [mine[0][key] for key in same]
    assert second["generator_fingerprint"] == first["generator_fingerprint"]
    assert first["pairs"] == 0 and "training" not in first
    assert linear["iterations"][0]["valid"] == NUM_SAMPLES
    with Store.read(config.parent / "run" / "run.db") as store:
        copied = store.candidates(1, "no_learning")
        assert all(c.status != "scored" for c in copied)  # each score was known from main
        assert [c.source for c in copied] == [c.source for c in store.candidates(1)]
    budget = result["budget"]["arms"]
    assert set(budget) == {"main", "no_learning", "linear"}
    assert all(arm["best"] > 0 and arm["all_samples"] == 2 * NUM_SAMPLES for arm in budget.values())
    assert [row["b"] for row in result["arm_comparisons"]] == ["no_learning", "linear"]
    assert linear["best"]["test"] and result["arm_verdict"]


def test_scores_have_intervals_and_test_lines(result):
    for row in (result["base"], result["best"], *result["experts"].values()):
        for split in ("dev", "test"):
            score = row[split]
            assert score["n"] == 40
            assert score["low"] <= score["score"] <= score["high"]
    assert set(result["baselines"]) == {"model_stock"}
    assert result["best"]["dev"]["score"] >= result["base"]["dev"]["score"]


def test_the_report_stands_alone(result, config):
    page = (config.parent / "run" / "report.html").read_text()
    used = re.findall(
        r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", page
    )
    assert not [u for u in used if not u.startswith(("data:", "#"))]
    assert result["best"]["id"] in page


def test_the_best_exports_and_scores_the_same(selfdev, result, config):
    out = config.parent / "best"
    answer = selfdev("export", config.parent / "run", "best", "--out", out, "--json")
    assert answer.code == 0, answer.stderr
    compared = selfdev("compare", config.parent / "run", "best", "base", "--json").json
    assert compared["first"] == result["best"]["id"]
    task = f"jsonl:{config.parent / 'task.jsonl'}"
    again = selfdev("eval", out, "--task", task, "--json").json
    assert again["correct"] == result["best"]["dev"]["correct"]
    card = ModelCard.load(out / "README.md", ignore_metadata_errors=False)
    assert card.data.base_model_relation == "merge" and card.data.base_model is None
    told = {r.dataset_split: r.metric_value for r in card.data.eval_results or ()}
    for split in ("dev", "test"):
        assert told[split] == pytest.approx(result["best"][split]["score"], abs=1e-6)
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert f"{digest}  model.safetensors" in card.text and str(config.parent) not in card.content
    with Store.read(config.parent / "run" / "run.db") as store:
        source = store.candidate(result["best"]["id"]).source
    program = (out / "merge_program.py").read_text()
    assert "def merge_models" in program and program.strip() in source


def test_resume_of_a_complete_run_repeats_nothing(selfdev, result, config):
    run = config.parent / "run"
    answer = selfdev("run", config, "--run", run, "--resume", "--json", timeout_s=300)
    assert answer.code == 0, answer.stderr
    assert answer.json["iterations"] == result["iterations"]
    assert answer.json["best"] == result["best"]
    assert answer.json["arms"] == result["arms"]


@pytest.fixture(scope="module")
def others(zoo, tmp_path_factory):
    """--expert words of three other experts of the base: each is halfway between two of the zoo's."""
    folder, words = tmp_path_factory.mktemp("others"), []
    weights = {n: load_file(p / "model.safetensors") for n, p in zoo.experts.items()}
    for one, two in itertools.combinations(weights, 2):
        out = shutil.copytree(zoo.experts[one], folder / f"{one}-{two}")
        mixed = {k: (weights[one][k] + weights[two][k]) / 2 for k in weights[one]}
        save_file(mixed, out / "model.safetensors", {"format": "pt"})
        words += ["--expert", f"{out.name}={out}"]
    return words


def test_found_programs_are_scored_on_other_experts(selfdev, result, config, others):
    run = config.parent / "run"
    answer = selfdev("transfer", run, *others, "--top", "1", "--json", timeout_s=300)
    assert answer.code == 0, answer.stderr
    found = answer.json
    (first,) = found["candidates"]
    assert first["id"] == result["best"]["id"]
    assert first["dev_of_run"] == result["best"]["dev"]["score"]
    rows = [found["base"], *found["experts"].values(), found["task_arithmetic"], first]
    assert len(rows) == 6 and all(row["n"] == 40 and row["dev"]["n"] == 40 for row in rows)
    assert found["base"]["correct"] == result["base"]["test"]["correct"]
    assert found["verdict"].startswith("On 40 test questions")
    # More programs cost only their own looks, and nothing is asked again.
    more = selfdev("transfer", run, *others, "--top", "2", "--json", timeout_s=300).json
    assert more["candidates"][0] | {"made_with": 0} == first | {"made_with": 0}
    new = more["test_looks"] - found["test_looks"]
    assert new == (more["candidates"][1]["status"] == "scored")
    assert 4 <= found["test_looks"] - result["test_looks"] <= 6
    with Store.read(run / "run.db") as store:
        assert looks_of(store) == more["test_looks"]


def test_a_run_is_not_overwritten_by_accident(selfdev, result, config):
    answer = selfdev("run", config, "--run", config.parent / "run", "--json")
    assert answer.code == 2
    assert "--resume" in answer.json["error"]


def test_the_papers_run_is_checked_offline(selfdev, zoo):
    paper = zoo.folder.parents[1] / "configs" / "paper-gsm8k.yaml"
    answer = selfdev("run", paper, "--plan", "--gpus", "1xH100-80GB", "--json")
    assert answer.code == 0, answer.stderr
    plan = json.dumps(answer.json["plan"])
    assert "9000" in plan


NUM_KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_that_are_killed_at_twenty_points_end_as_one_that_is_not(selfdev, result, config):
    """The kills come at random times, so in all stages: start, scores, samples, training, test."""
    run, draw, kills = config.parent / "killed", random.Random(0), 0
    while kills < NUM_KILLS:
        if killed_after(config, run, draw.uniform(5, 35)):
            kills += 1
        else:
            check_alike(selfdev("run", config, "--run", run, "--resume", "--json").json, result)
            shutil.rmtree(run)
    ended = selfdev("run", config, "--run", run, *resumed(run), "--json", timeout_s=550)
    assert ended.code == 0, ended.stderr
    check_alike(ended.json, result)


def resumed(run: Path) -> list[str]:
    return ["--resume"] if (run / "config.yaml").is_file() else []


def killed_after(config: Path, run: Path, seconds: float) -> bool:
    """Run or resume, and kill the command and all of its group after a time, unless it ended before."""
    words = [str(Path(sys.executable).parent / "selfdev-engine"), "run", str(config), "--run"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [*words, str(run), *resumed(run)], start_new_session=True, **quiet
    ) as process:
        try:
            assert process.wait(timeout=seconds) == 0
            return False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True


def check_alike(found: dict[str, Any], whole: dict[str, Any]) -> None:
    for key in whole.keys() - {"run"}:
        assert found[key] == whole[key], key
