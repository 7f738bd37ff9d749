"""The analysis of the evidence on made-up outcomes whose answer is known, and how a run is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from selfdev_engine.bench.evidence import __main__ as evidence
from selfdev_engine.bench.evidence import grids, writers
from selfdev_engine.bench.evidence.analysis import (
    MAIN,
    NOISE,
    STATED,
    analyse,
    described,
    in_words,
    interval,
    outcomes_of,
    over_zoos,
    sign_flip,
)
from selfdev_engine.selfdev.config import load_config

REPO = Path(__file__).parents[2]
ARMS = (*STATED, *NOISE[1:], "random_programs")


def made_up(main, **others):
    """Outcomes of eight zoos: `main` adds to .5 in each, and the other arms what they are given, or nothing."""
    return {
        zoo: {MAIN: 0.5 + main[zoo], **{arm: 0.5 + others.get(arm, [0.0] * 8)[zoo] for arm in ARMS}}
        for zoo in range(8)
    }


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.1] * 8, 2 / 256),  # the smallest that eight zoos can give
        ([0.1, 0.3, 0.2], 2 / 8),
        ([0.1, -0.1], 1.0),
        ([0.3, 0.1, -0.2], 6 / 8),  # the sums are .6, .4, .2 and 0, each with both signs
        ([0.0, 0.0], 1.0),
    ],
)
def test_the_sign_flip_test_is_exact(differences, p):
    assert sign_flip(differences) == pytest.approx(p)
    assert sign_flip([-d for d in differences]) == pytest.approx(p)


def test_what_is_better_in_all_zoos_is_shown_after_holm():
    found = analyse(made_up([0.05, 0.06, 0.04, 0.05, 0.07, 0.03, 0.05, 0.05]))
    for row in found["stated"].values():
        assert row["difference"] == pytest.approx(0.05)
        assert row["p"] == pytest.approx(0.0078125) and row["p_holm"] == pytest.approx(0.03125)
        assert 0.04 < row["low"] < 0.05 < row["high"] < 0.06
    assert found["noise"]["difference"] == 0 and found["noise"]["p"] == 1
    assert "main - sft: +0.0500" in in_words(found)


def test_an_arm_that_is_as_good_is_not_beaten():
    gains = [0.05, 0.06, 0.04, 0.05, 0.07, 0.03, 0.05, 0.05]
    found = analyse(made_up(gains, sft=gains[::-1], linear=[2 * g for g in gains]))["stated"]
    assert found["sft"]["difference"] == pytest.approx(0) and found["sft"]["p_holm"] == 1
    assert found["linear"]["difference"] == pytest.approx(-0.05)
    assert found["no_learning"]["p_holm"] == pytest.approx(0.03125)


def test_a_zoo_without_an_outcome_is_named_and_left_out_of_that_comparison_only():
    outcomes = made_up([0.05] * 8)
    outcomes[3]["permuted"] = None
    found = analyse(outcomes)["stated"]
    assert found["permuted"]["left_out"] == [3] and found["permuted"]["zoos"] == 7
    assert found["permuted"]["p"] == pytest.approx(2 / 128) and found["sft"]["zoos"] == 8
    assert found["permuted"]["p_holm"] == max(row["p_holm"] for row in found.values())
    nothing = analyse({1: {MAIN: 0.5, "sft": None}})
    assert nothing["stated"]["sft"]["p_holm"] is None and "no zoo has both" in in_words(nothing)


def test_the_interval_is_students():
    """Eight values with mean 4.5 and standard deviation 2.449; t of 7 degrees of freedom is 2.365."""
    low, high = interval([1, 2, 3, 4, 5, 6, 7, 8])
    assert (low, high) == pytest.approx((2.452, 6.548), abs=2e-3)
    assert interval([1.0]) == (None, None)


def kept_run(valid, margin):
    score = {"dev": {"score": 0.6}, "test": {"score": 0.5}}
    turns = [
        {"training": {"holdout_margin_nats": margin}, "valid": 1, "sampled": 10, "mean": 0.4},
        {"valid": valid, "sampled": 10, "mean": 0.5 if valid else None},
    ]
    arm = {"iterations": turns, "tested": [score, {"dev": {"score": 0.9}, "test": None}]}
    reached = {"scores": [0.5, 0.6], "above_best_baseline": 0.5, "linear": None}
    arms = {"linear": {"iterations": turns[1:], "tested": []}}
    return {"result": {**arm, "arms": arms}, "arms": {MAIN: reached, "linear": reached}}


def test_other_figures_are_means_over_the_zoos_that_have_them():
    runs = [described(kept_run(4, [1.0, 0.5, 1.5])), described(kept_run(0, [None, None, None]))]
    main, linear = runs[0][MAIN], runs[0]["linear"]
    assert main["valid"] == 0.4 and main["updates"] == 2 and main["margin"] == 1.0
    assert main["dev_to_test"] == pytest.approx(0.1) and linear["dev_to_test"] is None
    assert linear["margin"] is None and runs[1][MAIN]["margin"] is None
    over = over_zoos(runs)[MAIN]
    assert over["valid"] == pytest.approx(0.2) and over["mean"] == 0.5 and over["margin"] == 1.0
    assert over_zoos([]) == {}


def run_object(mean):
    turns = [{"mean": 0.4}, {"mean": mean}]
    return {"iterations": turns, "arms": {arm: {"iterations": turns} for arm in ARMS}}


def test_the_outcome_is_that_of_the_last_iteration():
    assert outcomes_of(run_object(0.6)) == dict.fromkeys((MAIN, *ARMS), 0.6)


def test_what_was_run_is_not_run_again_and_what_was_begun_goes_on(tmp_path, monkeypatch):
    said = []

    def command(*words):
        said.append([str(word) for word in words])
        return json.dumps({"run": "a folder of this machine", **run_object(0.6)})

    monkeypatch.setattr(evidence, "command", command)
    monkeypatch.setattr(evidence, "arms_reached", lambda run: {MAIN: {"scores": [0.5]}})
    (tmp_path / "run-12").mkdir()
    (tmp_path / "run-12" / "run.db").write_text("")
    (tmp_path / "results").mkdir()
    for seed in (11, 12, 11):
        kept = evidence.kept_of(tmp_path, seed, tmp_path / "results")
        assert kept["result"] == run_object(0.6) and kept["arms"] == {MAIN: {"scores": [0.5]}}
        assert kept["seed"] == seed and str(tmp_path) not in json.dumps(kept)
    assert [(words[0], words[-1]) for words in said] == [
        ("zoo", "11"), ("run", str(tmp_path / "run-11")), ("zoo", "12"), ("run", "--resume"),
    ]  # fmt: skip


def test_the_config_of_a_zoo_is_one_that_run_takes(tmp_path):
    recipe = yaml.safe_load((REPO / evidence.RECIPE).read_text())
    file = tmp_path / "11.yaml"
    file.write_text(yaml.safe_dump(evidence.config_of(recipe, tmp_path / "zoo", 11)))
    arms = {arm.name: arm for arm in load_config(file).all_arms}
    assert {*STATED, *NOISE} <= arms.keys() and len(evidence.SEEDS) == 8
    # Equal seeds would draw equal samples, and the noise floor would be zero.
    assert len({arms[name].seed for name in NOISE}) == len(NOISE) == 2


@pytest.mark.parametrize("recipe", ["smollm2", "coder"])
def test_the_configs_of_larger_writers_are_ones_that_run_takes(recipe, tmp_path):
    made = writers.on_smollm2(REPO / "configs" / f"{recipe}.yaml", tmp_path / "zoo", "writer")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(made))
    config = load_config(file)
    assert [*config.experts] == [*writers.EXPERTS] and config.iterations * config.samples == 300
    assert config.generator == "writer" and config.dpo.max_steps * config.dpo.batch_size <= 160


def test_the_first_questions_are_of_both_splits(tmp_path):
    tasks, kept = tmp_path / "tasks.jsonl", tmp_path / "kept.jsonl"
    rows = [{"question": i, "split": "dev" if i < 100 else "test"} for i in range(200)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    writers.first_questions(tasks, kept)
    numbers = [json.loads(line)["question"] for line in kept.read_text().splitlines()]
    assert numbers == [*range(50), *range(100, 150)]


def test_the_grid_with_zeros_is_one_that_run_takes(tmp_path):
    recipe = yaml.safe_load((REPO / evidence.RECIPE).read_text())
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grids.grid_config(recipe, tmp_path / "zoo", 11)))
    config = load_config(file)
    arms = {arm.name: arm for arm in config.all_arms}
    assert arms["grid"].writer == "grid" and not any(arm.learns for arm in arms.values())
    assert config.samples == 343 and config.iterations == 1
